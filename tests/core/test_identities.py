"""What the methods have in common, and what they are in their corners."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax import norms
from tests.oracles import gorbunov_2020

STEPS = 60


def gradients(seed=0):
    """Heavy-tailed gradients of a small tree, of sizes over four decades."""
    random = np.random.default_rng(seed)
    sizes = 10 ** random.uniform(-2, 2, STEPS)
    draws = [random.standard_t(1.5, shape) for shape in ((STEPS, 3), (STEPS, 2, 2))]
    return [
        {"a": jnp.asarray(size * a), "b": jnp.asarray(size * b)}
        for size, a, b in zip(sizes, *draws, strict=True)
    ]


def walk(optimizer, start=None):
    """The updates on the sequence, the parameters moving along."""
    steps = gradients()
    params = jax.tree.map(jnp.ones_like, steps[0]) if start is None else start
    update = jax.jit(optimizer.update)
    state, updates = optimizer.init(params), []
    for gradient in steps:
        out, state = update(gradient, state, params)
        params = optax.apply_updates(params, out)
        updates.append(out)
    return updates, params, state


def assert_equal_walks(one, other, tolerance=1e-12):
    for step, (mine, theirs) in enumerate(zip(walk(one)[0], walk(other)[0], strict=True)):
        for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=1e-300, err_msg=f"step {step}")


@pytest.mark.parametrize("weight", [0.01, 0.5, 1.0, 30.0])
def test_a_weight_of_squares_is_a_scale_of_rate_and_start(x64, weight):
    root = np.sqrt(weight)
    assert_equal_walks(
        clipax.clip_radagrad_norm(0.3, 2.0, b_init=0.7, reweight=weight),
        clipax.clip_adagrad_norm(0.3 / root, 2.0, b_init=0.7 / root, delay=1),
    )


def test_mixed_clipping_without_momentum_is_clipped_descent(x64):
    # A step of at most G at the rate eta is a threshold of G/eta.
    mixed = clipax.mixed_clip_sgd(0.25, 0.5, nu=0.0)
    assert_equal_walks(mixed, clipax.clip_sgd(0.25, 2.0), tolerance=1e-15)


def test_mixed_clipping_with_momentum_alone_is_averaged_descent(x64):
    mixed = clipax.mixed_clip_sgd(0.25, float("inf"), nu=1.0, decay=0.8)
    average = optax.chain(optax.ema(0.8, debias=False), optax.scale_by_learning_rate(0.25))
    assert_equal_walks(mixed, average)
    assert_equal_walks(clipax.momentum_clip_sgd(0.25, float("inf"), decay=0.8), average)


def test_mixed_clipping_without_a_limit_is_quasi_hyperbolic_momentum(x64):
    mixed = clipax.mixed_clip_sgd(0.25, float("inf"), nu=0.6, decay=0.8)
    means, _, _ = walk(
        optax.chain(optax.ema(0.8, debias=False), optax.scale_by_learning_rate(0.25))
    )
    plain, _, _ = walk(optax.sgd(0.25))
    for out, mean, step in zip(walk(mixed)[0], means, plain, strict=True):
        expected = jax.tree.map(lambda m, g: 0.6 * m + 0.4 * g, mean, step)
        for a, b in zip(jax.tree.leaves(out), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-300)


def test_momentum_clipping_is_mixed_clipping_in_its_corner(x64):
    assert_equal_walks(
        clipax.momentum_clip_sgd(0.25, 0.5, decay=0.8),
        clipax.mixed_clip_sgd(0.25, 0.5, nu=1.0, decay=0.8),
    )


@pytest.mark.parametrize("response", ["hard", "soft"])
def test_no_step_of_mixed_clipping_is_longer_than_its_limit(x64, response):
    updates, _, _ = walk(clipax.mixed_clip_sgd(0.25, 0.5, response=response))
    lengths = [float(optax.tree.norm(out)) for out in updates]
    assert max(lengths) <= 0.5 * (1 + 1e-12)
    assert min(lengths) < 0.1  # and some are short


def test_a_scale_of_rate_and_limit_scales_the_steps(x64):
    small, _, _ = walk(clipax.mixed_clip_sgd(0.25, 0.5))
    large, _, _ = walk(clipax.mixed_clip_sgd(0.75, 1.5))
    for a, b in zip(jax.tree.leaves(small), jax.tree.leaves(large), strict=True):
        np.testing.assert_allclose(3 * a, b, rtol=1e-12)


def test_the_soft_response_lies_between_half_and_all_of_the_hard_one():
    sizes = jnp.logspace(-6, 6, 200)

    def length(response, size):
        optimizer = clipax.mixed_clip_sgd(0.25, 0.5, nu=0.0, response=response)
        return -optimizer.update(size, optimizer.init(size))[0]

    hard, soft = (
        jax.vmap(lambda size, r=response: length(r, size))(sizes) for response in ("hard", "soft")
    )
    assert (soft <= hard * (1 + 1e-6)).all()
    assert (soft >= hard / 2 * (1 - 1e-6)).all()


def test_a_limit_that_decays_with_the_rate_is_a_constant_threshold(x64):
    def rate(count):
        return 0.25 / (1 + count)

    mixed = clipax.mixed_clip_sgd(rate, lambda count: 2.0 * rate(count), nu=0.0)
    assert_equal_walks(mixed, clipax.clip_sgd(rate, 2.0))


def test_a_rate_of_zero_moves_nothing_and_keeps_the_momentum():
    optimizer = clipax.mixed_clip_sgd(lambda count: 0.0 * count, 1.0, decay=0.5)
    params = jnp.array([8.0])
    out, state = optimizer.update(params, optimizer.init(params), params)
    assert out[0] == 0
    assert optax.tree.get(state, "momentum")[0] == 4


@pytest.mark.parametrize("before", [None, norms.clip(2.0)])
def test_normalised_steps_have_the_length_of_the_rate(x64, before):
    optimizer = (
        clipax.normalized_momentum(0.3)
        if before is None
        else clipax.clip_normalized_momentum(0.3, 2.0)
    )
    lengths = [float(optax.tree.norm(out)) for out in walk(optimizer)[0]]
    np.testing.assert_allclose(lengths, 0.3, rtol=1e-12)


def test_coordinate_wise_adagrad_of_one_number_is_adagrad_norm(x64):
    start, steps = jnp.array(3.0), jnp.asarray(np.random.default_rng(1).standard_t(1.5, 50))
    for delay in (None, 1, 3):
        optimizers = (
            clipax.clip_adagrad(0.3, 1.0, b_init=0.5, delay=delay),
            clipax.clip_adagrad_norm(0.3, 1.0, b_init=0.5, delay=delay),
        )

        def run(optimizer):
            def step(carry, gradient):
                params, state = carry
                updates, state = optimizer.update(gradient, state, params)
                return (optax.apply_updates(params, updates), state), params

            return jax.lax.scan(step, (start, optimizer.init(start)), steps)[1]

        one, other = (run(optimizer) for optimizer in optimizers)
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_similar_triangles_follow_the_sequences_of_the_paper(x64):
    constants = {"smoothness": 2.0, "a": 1.5, "clip_constant": 0.7}
    optimizer = clipax.clipped_sstm(**constants)
    steps = gradients()
    start = jax.tree.map(jnp.ones_like, steps[0])
    flat = [{k: np.asarray(v) for k, v in tree.items()} for tree in (start, *steps)]
    reached = gorbunov_2020.points(flat[1:], flat[0], **constants)
    params, state = start, optimizer.init(start)
    update = jax.jit(optimizer.update)
    for gradient, (x, y) in zip(steps, reached, strict=True):
        out, state = update(gradient, state, params)
        params = optax.apply_updates(params, out)
        output = clipax.clipped_sstm_eval_params(state, params)
        for path in params:
            np.testing.assert_allclose(params[path], x[path], rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(output[path], y[path], rtol=1e-12, atol=1e-14)


def test_a_skipped_step_of_similar_triangles_does_not_count(x64):
    optimizer = clipax.clipped_sstm(1.0, a=1.0, clip_constant=1.0)
    start = jnp.array([4.0])

    def run(sequence):
        params, state = start, optimizer.init(start)
        for gradient in sequence:
            out, state = optimizer.update(jnp.array([gradient]), state, params)
            params = optax.apply_updates(params, out)
        return params, clipax.clipped_sstm_eval_params(state)

    assert run([3.0, float("nan"), 2.0, 1.0]) == run([3.0, 2.0, 1.0])


def test_similar_triangles_are_faster_than_descent_on_an_ill_conditioned_quadratic():
    eigenvalues = jnp.logspace(-4, 0, 50)
    start = jnp.ones(50)

    def loss(x):
        return jnp.sum(eigenvalues * x**2) / 2

    def run(optimizer, evaluate):
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, state), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=200)
        return float(loss(evaluate(params, state)))

    accelerated = run(
        clipax.clipped_sstm(1.0, a=1.0, clip_constant=10.0),
        lambda params, state: clipax.clipped_sstm_eval_params(state, params),
    )
    assert accelerated < 0.2 * run(clipax.clip_sgd(1.0, 10.0), lambda params, state: params)


def test_the_output_of_similar_triangles_is_found_or_refused():
    params = {"w": jnp.ones(2, jnp.bfloat16)}
    state = optax.chain(optax.identity(), clipax.clipped_sstm(1.0, 1.0, 1.0)).init(params)
    assert clipax.clipped_sstm_eval_params(state)["w"].dtype == jnp.float32
    assert clipax.clipped_sstm_eval_params(state, params)["w"].dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="one `clipped_sstm`"):
        clipax.clipped_sstm_eval_params(clipax.clip_sgd(0.1, 1.0).init(params))
    with pytest.raises(ValueError, match="one `clipped_sstm`"):
        clipax.clipped_sstm_eval_params(clipax.acclip(0.1).init(params))


def test_a_narrow_momentum_does_not_stand_still():
    # In bfloat16 it would stop at a quarter of the gradient.
    optimizer = clipax.momentum_clip_sgd(1.0, float("inf"), decay=0.999)
    params = jnp.ones(1, jnp.bfloat16)

    def step(state, _):
        return optimizer.update(params, state, params)[1], None

    state, _ = jax.lax.scan(step, optimizer.init(params), length=5_000)
    assert optax.tree.get(state, "momentum")[0] == pytest.approx(1 - 0.999**5000, rel=1e-3)


@pytest.mark.parametrize(
    "optimizer",
    [clipax.momentum_clip_sgd(1.0, 0.1, decay=0.5), clipax.clip_normalized_momentum(0.1, 1.0)],
)
def test_telemetry_of_a_measured_momentum(optimizer):
    params = jnp.array([6.0, 8.0])
    update = jax.jit(optimizer.update)
    state = optimizer.init(params)
    for gradient in (params, params * jnp.nan, params):
        _, state = update(gradient, state, params)
    inner = state[0]
    assert clipax.block_names(state) == ("averaged", "gradient")
    # As a checkpoint gives it back, without the keys of what remembers nothing.
    bare = {**inner._asdict(), "before": None, "after": None}
    assert clipax.block_names(bare) == ("averaged", "gradient")
    found = clipax.metrics(state)
    assert found["grad_norm"] == pytest.approx(10)
    assert found["clip_fraction"] == 1
    np.testing.assert_array_equal(inner.nonfinite_count, [1, 1])
    np.testing.assert_array_equal(clipax.metrics(state, top=None)["is_finite/averaged"], True)


def test_a_threshold_of_the_parameters_in_front_of_a_momentum():
    relative = clipax.thresholds.Threshold(
        lambda shape: (),
        lambda norms, state, context: (0.1 * context.param_norms, state),
        needs_params=True,
    )
    optimizer = clipax.clip_normalized_momentum(0.5, relative)
    params = jnp.array([3.0, 4.0])
    _, state = optimizer.update(10 * params, optimizer.init(params), params)
    np.testing.assert_allclose(optax.tree.get(state, "momentum"), 0.01 * params, rtol=1e-6)
    with pytest.raises(ValueError, match="`params` must be given"):
        optimizer.update(params, optimizer.init(params))


def test_no_derivative_of_power_means_is_bad():
    optimizer = clipax.acclip(0.1, alpha=1.5)
    params = jnp.zeros(3)
    state = optimizer.init(params)
    slope = jax.grad(lambda g: optimizer.update(g, state, params)[0].sum())(params)
    assert jnp.isfinite(slope).all()


def test_compensation_belongs_to_hard_clips():
    threshold = clipax.thresholds.rms_of_norms(0.5, compensate="bound")
    clipax.clip_by_global_norm(threshold)
    for make in (clipax.clip_by_smooth_norm, lambda c: clipax.clip_by_regularized_norm(c, 0.1)):
        with pytest.raises(ValueError, match="`threshold` must be one without compensation"):
            make(threshold)


def test_scales_of_narrow_parameters_do_not_stand_still():
    # In bfloat16 the scale would stop at 256 times the gradient.
    optimizer = clipax.clip_adagrad(1.0, float("inf"), b_init=1e-3)
    params = jnp.ones(1, jnp.bfloat16)

    def step(state, _):
        return optimizer.update(params, state, params)[1], None

    state, _ = jax.lax.scan(step, optimizer.init(params), length=100_000)
    scale = optax.tree.get(state, "scales")[0]
    assert scale == pytest.approx(np.sqrt(1e5), rel=1e-2)
    assert scale.dtype == jnp.float32
