"""Figures of the papers that the first methods must reproduce, in quick form.

References: J. Zhang et al. 2020 (arXiv 1905.11881), M. Tucat, A. Mukherjee et al. 2025 (arXiv
2404.08624), A. Sadiev et al. 2023 (arXiv 2302.00999).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax


def steps_until(optimizer, gradient, start, eps, limit=10_000):
    """Number of updates made until the gradient, tested before each update, is at most `eps`."""
    params = jnp.asarray(start, jnp.float64)

    def more(carry):
        params, _, steps = carry
        return (jnp.abs(gradient(params)) > eps) & (steps < limit)

    def step(carry):
        params, state, steps = carry
        updates, state = optimizer.update(gradient(params), state, params)
        return optax.apply_updates(params, updates), state, steps + 1

    run = jax.jit(lambda carry: jax.lax.while_loop(more, step, carry))
    return int(run((params, optimizer.init(params), jnp.zeros((), jnp.int32)))[2])


def theorem_three(l0, l1):
    return clipax.clip_sgd(1 / (10 * l0), min(10 * l0, l0 / l1))


@pytest.mark.parametrize(("eps", "theorem", "practical"), [(0.1, 508, 49), (0.01, 1359, 133)])
def test_clipped_descent_on_a_quartic(x64, eps, theorem, practical):
    def gradient(x):
        return 4 * x**3

    assert steps_until(theorem_three(16, 1), gradient, 30, eps) == theorem
    assert steps_until(clipax.clip_sgd(1 / 16, 16.0), gradient, 30, eps) == practical


@pytest.mark.parametrize(("start", "clipped"), [(3, 85), (6, 115), (9, 145), (12, 175)])
def test_clipped_descent_on_a_hyperbolic_cosine(x64, start, clipped):
    assert steps_until(theorem_three(1, 1), jnp.sinh, start, 1e-3) == clipped
    if start == 3:  # the unclipped step must fit the largest gradient: 161, then 3,074, 61,597, ...
        rate = 1 / (2 * (np.sinh(3) + 1))
        assert steps_until(optax.sgd(rate), jnp.sinh, start, 1e-3) == 161


def test_normalised_steps_are_between_half_and_all_of_clipped_ones():
    norms = jnp.logspace(-6, 6, 200)
    rate, threshold = 0.3, 2.0

    def length(optimizer, norm):
        return -optimizer.update(norm, optimizer.init(norm))[0]

    clipped = jax.vmap(lambda n: length(clipax.clip_sgd(rate, threshold), n))(norms)
    normalised = jax.vmap(
        lambda n: length(clipax.normalized_sgd(rate * threshold, eps=threshold), n)
    )(norms)
    assert (normalised <= clipped * (1 + 1e-6)).all()
    assert (normalised >= clipped / 2 * (1 - 1e-6)).all()


@pytest.mark.parametrize("delta", [1e-2, 0.1, 1.0])
def test_regularized_clipping_contracts_at_every_step(x64, delta):
    rng = np.random.default_rng(1)
    matrix = jnp.asarray(rng.normal(size=(50, 200)) / np.sqrt(200))
    target = jnp.asarray(rng.normal(size=50))
    eigenvalues = np.linalg.eigvalsh(matrix @ matrix.T)
    rate, smallest = 1 / eigenvalues[-1], eigenvalues[0]
    optimizer = clipax.regularized_clip_sgd(rate, threshold=0.1, delta=delta)

    def loss(w):
        return jnp.sum((matrix @ w - target) ** 2) / 2

    def step(carry, _):
        w, state = carry
        before, gradient = jax.value_and_grad(loss)(w)
        updates, state = optimizer.update(gradient, state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), (before, loss(w))

    start = jnp.asarray(50 * rng.normal(size=200))
    _, (before, after) = jax.jit(lambda w: jax.lax.scan(step, (w, optimizer.init(w)), length=2000))(
        start
    )
    resolved = before > 1e-20
    assert resolved.sum() > 50
    assert (after <= (1 - rate * delta * smallest) * before)[resolved].all()


def test_growing_thresholds_remove_bias_and_outliers():
    # Online estimation of a mean under noise of tail index 1.55, which has no variance.
    alpha, sigma, runs, steps = 1.5, 9.412, 1000, 20_000
    thresholds = {
        "none": float("inf"),
        "constant": sigma,
        "design": clipax.power_threshold(sigma, alpha),
        "nonconvex": clipax.power_threshold(sigma, alpha, "nonconvex"),
        "convex": clipax.power_threshold(sigma, alpha, "convex"),
    }

    def estimate(threshold, key):
        # One norm for each column: every run is a unit of its own.
        optimizer = clipax.clip_sgd(lambda count: 1 / (count + 1), threshold, scope="unit")

        def step(carry, key):
            x, state = carry
            words = jax.random.bits(key, x.shape).astype(jnp.float32)
            noise = ((words + 0.5) * 2.0**-32) ** (-1 / 1.55) - 2.81818
            updates, state = optimizer.update(x + noise, state)
            return (optax.apply_updates(x, updates), state), None

        x = jnp.zeros((1, runs))
        (x, _), _ = jax.lax.scan(step, (x, optimizer.init(x)), jax.random.split(key, steps))
        return jnp.abs(x[0])

    key = jax.random.key(0)
    errors = {
        name: np.asarray(jax.jit(estimate, static_argnums=0)(threshold, key))
        for name, threshold in thresholds.items()
    }
    medians = {name: np.median(error) for name, error in errors.items()}
    reference = {
        "none": 0.068,
        "constant": 0.469,
        "design": 0.107,
        "nonconvex": 0.079,
        "convex": 0.066,
    }
    for name, figure in reference.items():
        assert medians[name] == pytest.approx(figure, rel=0.15), name
    for name, figure in {"constant": 0.504, "design": 0.199, "nonconvex": 0.188}.items():
        assert np.quantile(errors[name], 0.99) == pytest.approx(figure, rel=0.15), name
