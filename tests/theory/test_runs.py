"""The promises of the theorems, seen in runs of the optimizers that take their parameters.

The figures of the convex theorem under heavy-tailed noise are among those of `benchmarks.papers`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax import theory
from clipax.lab.noise import Noise

# f = x^2/2 from x = 2 under noise of tail index 1.5, which has no variance.
RADIUS, RUNS = 2.0, 1000
NOISY = {"smoothness": 1.0, "sigma": 6.36, "alpha": 1.4, "failure_probability": 0.01}
PARETO = Noise("pareto", 1.5)


def iterates(optimizer, gradient, start, steps, runs=RUNS, seed=0):
    """The mean, the mean square and the last of each run's iterates, and the largest of all."""
    update = jax.vmap(optimizer.update)

    def step(carry, key):
        x, state, mean, square, largest = carry
        updates, state = update(gradient(x, key), state, x)
        mean, square = mean + x / steps, square + x**2 / steps
        largest = jnp.maximum(largest, jnp.abs(x).max())
        return (optax.apply_updates(x, updates), state, mean, square, largest), None

    def run(x, keys):
        zero = jnp.zeros_like(x)
        first = (x, jax.vmap(optimizer.init)(x), zero, zero, jnp.zeros(()))
        (x, _, mean, square, largest), _ = jax.lax.scan(step, first, keys)
        return mean, square, x, largest

    keys = jax.random.split(jax.random.key(seed), steps)
    return [np.asarray(part) for part in jax.jit(run)(jnp.full(runs, start), keys)]


def heavy_tailed(x, key):
    return x + PARETO.sample(key, x.shape)


@pytest.mark.thorough
@pytest.mark.parametrize("delayed", [True, False])
@pytest.mark.parametrize("method", ["adagrad", "adam"])
def test_non_convex_parameters_do_not_stall_as_a_scale_of_one_makes_them(method, delayed):
    theorem = getattr(theory, f"clip_{method}_norm_nonconvex")
    factory = getattr(clipax, f"clip_{method}_norm")
    squares = {}
    for steps in (100, 2000):
        problem = {**NOISY, "gap": RADIUS**2 / 2, "steps": steps, "delayed": delayed, "b1": None}
        for b_init in (None, 1.0):
            parameters = theorem(**problem, b_init=b_init)._asdict()
            square = iterates(factory(**parameters), heavy_tailed, RADIUS, steps)[1]
            squares[steps, b_init] = np.median(square) / RADIUS**2
    # The average of the squared gradient norms, which the theorem bounds, falls with the horizon.
    assert squares[2000, None] < 0.55 * squares[100, None]
    assert squares[2000, None] < 0.55 * squares[2000, 1.0]
    if method == "adagrad":  # whose scale only grows: the longer the run, the fewer its steps
        assert squares[2000, 1.0] > squares[100, 1.0] > 0.9


def test_the_reweighted_method_from_any_scale_is_the_delayed_one():
    problem = {**NOISY, "radius": RADIUS, "steps": 300}
    plain = clipax.clip_adagrad_norm(**theory.clip_adagrad_norm_convex(**problem)._asdict())
    expected = iterates(plain, heavy_tailed, RADIUS, 300, runs=50)[2]
    for b_init in (0.1, 40.0):
        parameters = theory.clip_radagrad_norm_convex(**problem, b_init=b_init)._asdict()
        found = iterates(
            clipax.clip_radagrad_norm(**parameters), heavy_tailed, RADIUS, 300, runs=50
        )[2]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_momentum_wants_a_larger_scale_still():
    problem = {**NOISY, "radius": RADIUS, "steps": 4000}
    with_momentum = theory.clip_adam_norm_convex(**problem)
    assert with_momentum.b_init > theory.clip_adam_norm_convex(**problem, b1=None).b_init
    gaps = {}
    for b_init in (None, 1.0):
        parameters = theory.clip_adam_norm_convex(**problem, b_init=b_init)._asdict()
        mean = iterates(clipax.clip_adam_norm(**parameters), heavy_tailed, RADIUS, 4000, 500)[0]
        gaps[b_init] = np.median(mean**2 / 2)
    assert gaps[None] < 0.4  # of 2 at the start
    assert gaps[1.0] > 0.9


def test_clipped_sgd_under_heavy_tailed_noise_keeps_the_promised_gap():
    for steps in (300, 3000):
        parameters = theory.clip_sgd_convex(**NOISY, radius=RADIUS, steps=steps)
        optimizer = clipax.clip_sgd(**parameters._asdict())
        mean = iterates(optimizer, heavy_tailed, RADIUS, steps)[0]
        # R^2/(eta K), which falls as K^(-(alpha - 1)/alpha); the start has a gap of 2.
        promised = RADIUS**2 / (parameters.learning_rate * steps)
        assert np.quantile(mean**2 / 2, 0.99) < promised
    assert np.quantile(mean**2 / 2, 0.99) < 1


@pytest.mark.parametrize("start", [3.0, 9.0])
def test_steps_for_growing_smoothness_descend(x64, start):
    # f = cosh x - 1 has L0 = L1 = 1. Tighter theory takes fewer steps.
    smooth = {"l0": 1.0, "l1": 1.0}
    optimizers = {
        "sgd": optax.sgd(*theory.sgd_smooth(**smooth, gradient_bound=np.sinh(start))),
        "theorem three": clipax.clip_sgd(*theory.clip_sgd_smooth(**smooth)),
        "any threshold": clipax.clip_sgd(*theory.clip_sgd_any_threshold(**smooth)),
        "tight": clipax.clip_sgd(*theory.clip_sgd_tight(**smooth)),
        "normalized": clipax.normalized_sgd(*theory.normalized_sgd_tight(**smooth)),
        "practical": clipax.clip_sgd(*theory.clip_sgd_practical(**smooth)),
    }

    def path(optimizer):
        def step(carry, _):
            x, state = carry
            updates, state = optimizer.update(jnp.sinh(x), state, x)
            return (optax.apply_updates(x, updates), state), jnp.cosh(x) - 1

        x = jnp.asarray(start, jnp.float64)
        return np.asarray(
            jax.jit(lambda x: jax.lax.scan(step, (x, optimizer.init(x)), length=800))(x)[1]
        )

    counts = {}
    for name, optimizer in optimizers.items():
        values = path(optimizer)
        assert (np.diff(values) <= 1e-15).all(), name
        counts[name] = np.count_nonzero(values > 1e-6)
    assert counts["practical"] < counts["tight"] < counts["theorem three"] < counts["sgd"]
    assert counts["normalized"] < counts["theorem three"]
    assert counts["any threshold"] < 800


def test_bounded_noise_is_added_to_the_norm():
    # f = x^4 has L0 = 16 and L1 = 1; plain descent with the same rate is off in one step.
    parameters = theory.clip_sgd_bounded_noise(l0=16.0, l1=1.0, noise_bound=1.0, steps=4000)

    def gradient(x, key):
        return 4 * x**3 + jax.random.uniform(key, x.shape, minval=-1, maxval=1)

    _, _, last, largest = iterates(
        clipax.clip_sgd(**parameters._asdict()), gradient, 30.0, 4000, runs=100
    )
    assert largest == 30
    assert np.abs(4 * last**3).max() < 0.1
    assert parameters.learning_rate * 4 * 30.0**3 > 60


@pytest.mark.parametrize("threshold", [0.1, 0.4, 0.499, 0.501, 0.8, 1.0, 5.0, 20.0])
def test_the_clipped_gradient_has_mean_zero_at_the_bias(threshold):
    sigma = 1.7
    threshold = threshold * sigma
    skewness = sigma / (2 * threshold) if threshold > sigma / 2 else 0.5
    rare = skewness**2 / (1 + skewness**2)
    noise = np.array([sigma / skewness, -sigma * skewness])
    chances = np.array([rare, 1 - rare])
    assert chances @ noise == pytest.approx(0, abs=1e-12)
    assert chances @ noise**2 == pytest.approx(sigma**2)
    gradients = theory.clipping_bias(sigma, threshold) + noise
    clipped = np.clip(gradients, -threshold, threshold)
    assert np.abs(gradients).max() > threshold
    assert chances @ clipped == pytest.approx(0, abs=1e-12)


def test_no_other_skewness_has_a_larger_bias():
    sigma, threshold = 1.0, 0.8
    skewness = np.linspace(0.01, 1, 1000)
    fixed = sigma * skewness - threshold * skewness**2
    assert fixed.max() == pytest.approx(theory.clipping_bias(sigma, threshold), rel=1e-4)


def _clipped_law(draws, quantile):
    """Mean of the clipped draws, mean factor and threshold, of the uniform law on the draws."""
    norms = np.linalg.norm(draws, axis=1)
    threshold = np.sort(norms)[int(np.ceil(quantile * len(norms))) - 1]
    factors = np.minimum(1, threshold / norms)
    return (factors[:, None] * draws).mean(axis=0), factors.mean(), threshold


@pytest.mark.parametrize("order", [1.0, 1.4, 2.0, 4.0])
@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9, 0.99])
def test_clipping_at_a_quantile_is_biased_by_no_more_than_the_bound(quantile, order):
    random = np.random.default_rng(0)
    tightest = 0.0
    for shift in (0.0, 0.3, 3.0, 30.0):
        draws = shift * np.eye(3)[0] + random.pareto(1.5, (2000, 3))
        true = draws.mean(axis=0)
        sigma = np.mean(np.linalg.norm(draws - true, axis=1) ** order) ** (1 / order)
        bound = theory.quantile_clipping_bias(quantile, sigma, order=order)
        mean, factor, threshold = _clipped_law(draws, quantile)
        assert np.linalg.norm(mean - factor * true) <= bound
        tightest = max(tightest, np.linalg.norm(mean - factor * true) / bound)
        if threshold >= np.linalg.norm(true):
            assert np.linalg.norm(mean - true) <= bound
    assert tightest > 0.01


def test_the_bound_is_of_the_direction_where_the_threshold_is_below_the_gradient():
    # Nine in fifteen gradients are (almost) zero, so is the median: nothing is left of the others.
    draws = np.array([[1e-9]] * 9 + [[10.0]] * 6)
    true, sigma = draws.mean(), draws.std()
    bound = theory.quantile_clipping_bias(0.5, sigma, order=2.0)
    mean, factor, threshold = _clipped_law(draws, 0.5)
    assert threshold < true
    assert abs(mean[0] - factor * true) <= bound < abs(mean[0] - true)
