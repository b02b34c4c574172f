"""The one place that measures, guards, applies and records."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax import _platforms, norms
from clipax.norms import Decision, NormRule
from clipax.thresholds import Threshold
from tests.thorough import thorough


def test_a_chain_of_norms_equals_a_chain_of_transformations():
    rng = np.random.default_rng(0)
    fused = clipax.scale_by_norm(
        norms.chain(norms.clip(1.0), norms.clip(0.9, response="sqrt"), norms.adagrad_norm(0.5))
    )
    linked = optax.chain(
        clipax.clip_by_global_norm(1.0),
        clipax.clip_by_smooth_norm(0.9),
        clipax.scale_by_adagrad_norm(b_init=0.5),
    )
    grads = {"w": jnp.zeros(6)}
    fused_state, linked_state = fused.init(grads), linked.init(grads)
    for _ in range(20):
        grads = {"w": jnp.asarray(rng.standard_t(1.5, size=6), jnp.float32)}
        one, fused_state = fused.update(grads, fused_state)
        many, linked_state = linked.update(grads, linked_state)
        np.testing.assert_allclose(one["w"], many["w"], rtol=1e-5)


def test_the_threshold_of_a_chain_is_in_units_of_the_measured_norm():
    both = norms.chain(norms.clip(8.0), norms.clip(4.0, floor=0.5), norms.clip(3.0))
    context = clipax.thresholds.Context(count=jnp.zeros((), jnp.int32))
    decision, _ = both.update(jnp.array([2.0, 16.0]), both.init((2,)), context)
    np.testing.assert_allclose(decision.factor, [1, 3 / 16])
    # 16 is cut to 8, halved to 4: the last threshold of 3 bites at 3 / (8/16 * .5) = 12.
    np.testing.assert_allclose(decision.threshold, [3, 8])
    np.testing.assert_allclose(norms.chain().update(jnp.array([2.0]), (), context)[0].factor, [1.0])


def test_weight_decay_is_scaled_but_not_measured():
    clip = clipax.scale_by_norm(norms.clip(1.0), weight_decay=0.5)
    params = {"w": jnp.array([10.0, 0.0])}
    updates, state = clip.update({"w": jnp.array([0.0, 4.0])}, clip.init(params), params)
    np.testing.assert_allclose(updates["w"], [0.25 * 5, 1.0])
    assert state.telemetry.grad_norm == 4
    with pytest.raises(ValueError, match="`params` must be given"):
        clip.update(params, clip.init(params))


def relative_threshold():
    """A fraction of the parameters' norm, with a count of what it saw as its memory."""

    def update(norms, state, context):
        return 0.1 * context.param_norms, state + 1

    return Threshold(lambda shape: jnp.zeros(shape), update, needs_params=True)


@pytest.mark.parametrize("response", ["hard", "sqrt"])
def test_thresholds_may_use_the_norms_of_the_parameters(response):
    rule = norms.clip(relative_threshold(), response=response)
    clip = clipax.scale_by_norm(rule, scope="unit")
    params = {"w": jnp.array([[10.0, 0.1], [0.0, 0.0]])}
    grads = {"w": jnp.array([[1.0, 1.0], [0.0, 0.0]])}
    state = clip.init(params)
    with pytest.raises(ValueError, match="`params` must be given"):
        clip.update(grads, state)
    updates, state = clip.update(grads, state, params)
    expected = [1.0, 0.01] if response == "hard" else [2**-0.5, 0.0099995]
    np.testing.assert_allclose(updates["w"][0], expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"must hold every leaf of the updates, 'w' is missing"):
        clip.update(grads, state, {})


def test_memory_is_kept_block_by_block_where_a_gradient_is_not_finite():
    clip = clipax.scale_by_norm(norms.clip(relative_threshold()), scope="unit")
    params = {"w": jnp.full((2, 2), 10.0)}
    _, state = clip.update(
        {"w": jnp.array([[jnp.nan, 1.0], [1.0, 1.0]])}, clip.init(params), params
    )
    np.testing.assert_array_equal(state.rules.before.units["block:w"], [0, 1])


def test_units_are_recorded_as_shares_and_extremes():
    clip = clipax.scale_by_norm(norms.clip(1.0), scope="unit")
    grads = {"w": jnp.array([[0.5, 4.0, 2.0, jnp.inf]] * 1 + [[0.0] * 4])}
    updates, state = clip.update(grads, clip.init(grads))
    np.testing.assert_allclose(updates["w"][0], [0.5, 1, 1, 0])
    named = clipax.metrics(state, top=None)
    assert named["grad_norm/w"] == 4
    assert named["clip_factor/w"] == 0.25
    assert state.telemetry.clipped_count[0] == 0.5
    assert state.telemetry.nonfinite_count[0] == 1


def test_telemetry_counts_clipped_and_finite_steps():
    clip = clipax.clip_by_global_norm(lambda count: 1.0 + count)
    state = clip.init(jnp.zeros(1))
    for value in (0.5, jnp.nan, 5.0, 9.0):
        _, state = clip.update(jnp.array([value]), state)
    metrics = clipax.metrics(state)
    assert state.telemetry.steps == 4
    assert metrics["grad_norm"] == 9
    assert metrics["threshold"] == 4  # the schedule advanced on the bad step
    assert metrics["nonfinite_count"] == 1
    np.testing.assert_allclose(metrics["clip_fraction"], 2 / 3, rtol=1e-6)
    _, state = clip.update(jnp.array([jnp.inf]), state)
    metrics = clipax.metrics(state)
    assert metrics["grad_norm"] == 9
    assert not metrics["is_finite"]


@pytest.mark.parametrize("decision", ["propagate", "zero"])
def test_momentum_survives_a_step_that_is_not_finite(decision):
    average = clipax.scale_by_norm(b1=0.5, nonfinite=decision)
    state = average.init(jnp.zeros(1))
    _, state = average.update(jnp.array([4.0]), state)
    update, state = average.update(jnp.array([jnp.nan]), state)
    assert np.isnan(update[0]) if decision == "propagate" else update[0] == 0
    update, state = average.update(jnp.array([0.0]), state)
    assert update[0] == 1.0


def test_leaves_that_are_none_keep_their_rows():
    clip = clipax.scale_by_norm(norms.adagrad_norm(1.0), b1=0.9, scope="leaf")
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    _, state = clip.update(params, clip.init(params))
    updates, later = clip.update({"a": None, "b": params["b"]}, state)
    assert updates["a"] is None
    np.testing.assert_array_equal(later.memory["momentum"]["a"], state.memory["momentum"]["a"])
    assert later.rules.before.rows[0] == state.rules.before.rows[0] < later.rules.before.rows[1]
    assert later.telemetry.grad_norm[0] == state.telemetry.grad_norm[0]


def test_leaves_unknown_to_the_state_are_refused_by_name():
    clip = clipax.clip_by_leaf_norm(1.0)
    state = clip.init({"a": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"`state` has no row for 'b'"):
        clip.update({"b": jnp.ones(2)}, state)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"b1": 1.0}, ValueError, r"`b1` must be in \[0, 1\), got 1.0"),
        ({"b1": "high"}, TypeError, "`b1` must be a number"),
        ({"weight_decay": -1}, ValueError, "`weight_decay` must be non-negative"),
        ({"nonfinite": "raise"}, ValueError, "`nonfinite` must be one of 'zero', 'propagate'"),
        ({"before": 1.0}, TypeError, "`before` must be made by `clipax.norms`"),
        ({"after": optax.adam(1.0)}, TypeError, "`after` must be made by `clipax.norms`"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        clipax.scale_by_norm(**arguments)


def test_a_transformation_of_norms_of_your_own():
    def update(block_norms, state, context):
        return Decision(jnp.full_like(block_norms, 0.5), jnp.full_like(block_norms, jnp.inf)), state

    halve = clipax.scale_by_norm(NormRule(lambda shape: (), update))
    assert halve.update(jnp.array([3.0]), halve.init(jnp.ones(1)))[0][0] == 1.5


@pytest.mark.parametrize("scope", ["leaf", "unit"])
def test_scopes_with_many_blocks_promote_nothing_implicitly(scope):
    clip = clipax.scale_by_norm(norms.clip(1.0), scope=scope)
    grads = {"kernel": jnp.full((2, 3), 3.0), "bias": jnp.full(3, 0.1, jnp.bfloat16)}
    with jax.numpy_dtype_promotion("strict"):
        _, state = jax.jit(clip.update)(grads, clip.init(grads))
    np.testing.assert_array_equal(state.telemetry.clipped_count, [0, 1])


@pytest.mark.parametrize(
    "method",
    [
        clipax.scale_by_adam_norm(b_init=1.0),
        clipax.delay_updates(1),
        clipax.scale_by_adagrad_norm(b_init=1e-37, delay=1),
        clipax.scale_by_norm(clipax.norms.clip(1.0), b1=0.9, weight_decay=0.1),
        clipax.scale_by_norm(
            clipax.norms.adagrad_norm(1e-10, delay=1), b1=0.9, after=clipax.norms.adagrad_norm(1.0)
        ),
    ],
)
def test_nothing_infinite_is_remembered_of_finite_gradients(method):
    params = {"w": jnp.array([1.0, 6e4], jnp.float16)}
    state = method.init(params)
    for size in (1e7, 1e30, 1e-30, 0.0):
        _, state = method.update({"w": jnp.full(2, size)}, state, params)
        for leaf in jax.tree.leaves(state):
            assert jnp.isfinite(leaf).all()


@pytest.mark.parametrize("platform", thorough(["cpu", "gpu", "tpu"], but=["cpu"]))
@pytest.mark.parametrize("scope", ["global", "leaf", "unit"])
@pytest.mark.parametrize("beside", [None, 1e-12, 1.0])
def test_no_block_is_too_small_to_be_clipped(platform, scope, beside):
    """Squares of 5e-20 vanish, and on a CPU nothing tells the block from zeros beside others."""
    gradient = {"tiny": jnp.full((40, 3), 5e-20)}
    if beside is not None:
        gradient["beside"] = jnp.full((3,), beside)
    clip = clipax.scale_by_norm(norms.clip(1e-21), scope=scope)
    unit = clipax.scale_by_norm(norms.normalize(eps=1e-30), scope=scope)
    with _platforms.assume_platform(platform):
        clipped, _ = jax.jit(clip.update)(gradient, clip.init(gradient))
        normal, state = jax.jit(unit.update)(gradient, unit.init(gradient))
    for update, limit in ((clipped, 1e-21), (normal, 1.0)):
        for leaf in jax.tree.leaves(update):
            wide = np.asarray(leaf, np.float64)
            columns = wide.reshape(-1, 3 if scope == "unit" and leaf.ndim == 2 else 1)
            length = np.linalg.norm(columns, axis=0)
            assert np.all(length <= limit * (1 + 1e-6))
    if beside is None and (scope, platform) != ("unit", "gpu"):
        size = np.sqrt(120 if scope != "unit" else 40) * 5e-20
        np.testing.assert_allclose(state.telemetry.grad_norm, size, rtol=1e-6)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("threshold", [1e300, np.float64(1e300), 10**100])
def test_a_number_beyond_float32_never_clips(threshold):
    gradient = jnp.array([3e30, 4e30])
    for clip in (
        clipax.clip_by_global_norm(threshold),
        clipax.clip_by_global_norm(lambda step: threshold),
        clipax.clip_by_value(threshold),
    ):
        np.testing.assert_array_equal(clip.update(gradient, clip.init(gradient))[0], gradient)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_number_below_float32_lets_next_to_nothing_pass():
    clip = clipax.clip_by_global_norm(1e-60)
    update, state = clip.update(jnp.array([1e-30]), clip.init(jnp.zeros(1)))
    assert 0 < update[0] <= 1.2e-38
    assert state.telemetry.threshold == jnp.finfo(jnp.float32).smallest_normal


NARROW = [jnp.float16, jnp.float8_e4m3fn, jnp.float8_e5m2, jnp.bfloat16]


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("threshold", thorough([1e-4, 1e-2, 1.0, 30.0], but=[1e-4]))
def test_rounding_to_subnormal_numbers_breaks_no_bound(dtype, threshold):
    rng = np.random.default_rng(0)
    limit = threshold * (1 + 4 * float(jnp.finfo(dtype).eps))
    for entries in (np.ones(30_000), rng.standard_normal(30_000), rng.standard_t(2, 30_000)):
        gradient = jnp.asarray(np.clip(entries, -200, 200), dtype)
        clip = clipax.clip_by_global_norm(threshold)
        update, _ = jax.jit(clip.update)(gradient, clip.init(gradient))
        wide = np.asarray(update).astype(np.float64)
        assert np.linalg.norm(wide) <= limit
        exact = np.asarray(gradient).astype(np.float64)
        exact *= min(1, threshold / np.linalg.norm(exact))
        # Off by one number of the type at most, and on its side of zero.
        unit = np.maximum(np.abs(exact) * float(jnp.finfo(dtype).eps), 0)
        small = float(jnp.finfo(dtype).smallest_subnormal)
        assert np.all(np.abs(wide - exact) <= unit + small)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float8_e4m3fn, jnp.float8_e5m2])
def test_subnormal_entries_of_narrow_types_pass_as_they_are(dtype):
    unit = float(jnp.finfo(dtype).smallest_subnormal)
    gradient = jnp.asarray(np.arange(-4, 5) * unit, dtype)
    clip = clipax.clip_by_global_norm(100.0)
    update, _ = jax.jit(clip.update)(gradient, clip.init(gradient))
    np.testing.assert_array_equal(
        np.asarray(update).astype(np.float32), np.asarray(gradient).astype(np.float32)
    )
