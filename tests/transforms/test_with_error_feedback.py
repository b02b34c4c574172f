"""Error feedback: a clip that is not biased, around any clip."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax import testing
from clipax._platforms import assume_platform


def run(method, gradients, donate=False):
    update = jax.jit(method.update, donate_argnums=1 if donate else ())
    state = method.init(gradients[0])
    updates = []
    for gradient in gradients:
        out, state = update(gradient, state)
        updates.append(out)
    return updates, state


@pytest.mark.parametrize(
    ("dtype", "clip"),
    [(jnp.float16, clipax.clip_by_global_norm), (jnp.float32, optax.clip_by_global_norm)],
)
def test_a_constant_gradient_is_reached_and_kept(dtype, clip):
    gradient = {"w": jnp.array([3.0, 0.0], dtype), "b": jnp.array(-4.0, dtype)}
    threshold = 0.75
    steps = math.ceil(5.0 / threshold)
    updates, _ = run(clipax.with_error_feedback(clip(threshold)), [gradient] * (steps + 3))
    for count, update in enumerate(updates, start=1):
        share = min(1.0, count * threshold / 5.0)
        for name, leaf in update.items():
            assert leaf.dtype == dtype
            np.testing.assert_allclose(
                np.float32(leaf),
                share * np.float32(gradient[name]),
                rtol=float(jnp.finfo(dtype).eps),
            )
        if count < steps:
            assert abs(float(update["b"])) < 4
    # The clip alone keeps its bias for ever.
    alone, _ = run(clip(threshold), [gradient] * 9)
    np.testing.assert_allclose(np.float32(alone[-1]["b"]), -4 * threshold / 5, rtol=1e-2)


def test_telemetry_is_that_of_the_clip_inside():
    gradient = jnp.array([3.0, 4.0])
    method = clipax.with_error_feedback(clipax.clip_by_global_norm(2.0))
    _, state = run(method, [gradient] * 4)
    found = clipax.metrics(state)
    assert found["clip_fraction"] == 0.5  # of changes by 5, 3, 1 and 0
    assert found["grad_norm"] == 0
    assert found["skipped_count"] == 0


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
@pytest.mark.parametrize(
    "clip",
    [optax.clip(1.0), clipax.clip_by_median(2.0), optax.add_noise(0.1, 0.5, jax.random.key(0))],
)
def test_a_bad_step_leaves_no_trace(clip, platform):
    method = clipax.with_error_feedback(clip)
    gradients = [jnp.array([3.0, 4.0]), jnp.array([1.0, -2.0])]
    bad = [jnp.array([1.0, value]) for value in (np.nan, np.inf, -np.inf)]
    with assume_platform(platform):
        updates, state = run(method, [gradients[0], *bad, gradients[1]])
        expected, wanted = run(method, gradients)
    np.testing.assert_array_equal(updates[1:4], np.zeros((3, 2)))
    np.testing.assert_array_equal([updates[0], updates[4]], expected)
    assert all(jax.tree.leaves(jax.tree.map(jnp.array_equal, state[1:], wanted[1:])))
    assert state.skipped_count == 3


@pytest.mark.parametrize("mode", [jax.grad, jax.jacfwd])
def test_derivatives_are_finite_where_a_step_is_bad(mode):
    method = clipax.with_error_feedback(optax.clip_by_global_norm(0.5))

    def size(first, second):
        gradient = jnp.stack([first, second])
        update, state = method.update(gradient, method.init(jnp.zeros(2)))
        return jnp.sum(update) + jnp.sum(state.memory["estimate"])

    slope = jax.jit(mode(size))
    assert slope(1.0, jnp.nan) == 0
    # Of 2 (x + y) / (2 |(x, y)|) by x.
    np.testing.assert_allclose(slope(3.0, 4.0), (25 - 3 * 7) / 125, rtol=1e-5)


def test_one_huge_gradient_moves_the_update_by_the_threshold():
    gradients = [jnp.ones(3), 1e30 * jnp.ones(3), jnp.ones(3), jnp.ones(3)]
    updates, _ = run(clipax.with_error_feedback(clipax.clip_by_global_norm(2.0)), gradients)
    np.testing.assert_allclose(jnp.linalg.norm(updates[1] - updates[0]), 2.0, rtol=1e-6)
    np.testing.assert_allclose(updates[2], updates[0], rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.complex64])
def test_a_change_that_overflows_stays_finite(dtype):
    # No clip: the change from one end of the range to the other is no float.
    method = clipax.with_error_feedback(optax.identity())
    largest = jnp.asarray(float(jnp.finfo(jnp.float32).max), dtype)
    updates, state = run(method, [largest, -largest, largest])
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves((updates, state)))


def test_donated_states_and_small_changes_in_bfloat16():
    # A little at a time: in bfloat16 the sum would stand still at 2.
    gradient = jnp.full((4,), 4.0, jnp.bfloat16)
    method = clipax.with_error_feedback(optax.clip(0.005))
    updates, _ = run(method, [gradient] * 700, donate=True)
    np.testing.assert_allclose(np.float32(updates[-1]), 3.5, rtol=1e-2)


def test_a_leaf_without_gradient_keeps_what_is_remembered():
    method = clipax.with_error_feedback(clipax.clip_by_global_norm(1.0))
    params = {"a": jnp.full(2, 3.0), "b": jnp.array(4.0)}
    state = method.init(params)
    _, before = method.update(params, state)
    update, after = method.update({"a": params["a"], "b": None}, before)
    assert update["b"] is None
    np.testing.assert_array_equal(after.memory["estimate"]["b"], before.memory["estimate"]["b"])


def test_bad_arguments():
    clip = clipax.clip_by_global_norm(1.0)
    with pytest.raises(TypeError, match="`inner` must be an optax gradient transformation"):
        clipax.with_error_feedback(1.0)
    with pytest.raises(ValueError, match="`memory` must be one of 'difference', 'buffer'"):
        clipax.with_error_feedback(clip, memory="estimate")
    for options in ({"b1": 0.9}, {"step": 0.5}):
        with pytest.raises(ValueError, match="`b1` and `step` must be left out with `memory='buff"):
            clipax.with_error_feedback(clip, memory="buffer", **options)


def test_a_missing_state_is_called_by_its_own_name():
    method = clipax.with_error_feedback(clipax.clip_by_global_norm(1.0))
    with pytest.raises(ValueError, match=r"`state` must be .*\(an ErrorFeedbackState\).*NoneType"):
        method.update(jnp.ones(2), None)


MODES = [{}, {"memory": "buffer"}, {"b1": 0.75}, {"b1": 0.75, "step": 0.5}]


@pytest.mark.parametrize("options", MODES, ids=str)
def test_every_memory_passes_over_bad_steps(options):
    method = clipax.with_error_feedback(clipax.clip_by_global_norm(2.0), **options)
    gradients = [jnp.array([3.0, 4.0]), jnp.array([1.0, -2.0]), jnp.array([0.5, 0.5])]
    bad = [jnp.array([1.0, value]) for value in (np.nan, np.inf, -np.inf)]
    updates, state = run(method, [gradients[0], *bad, *gradients[1:]])
    expected, wanted = run(method, gradients)
    np.testing.assert_array_equal(updates[1:4], np.zeros((3, 2)))
    np.testing.assert_array_equal([updates[0], *updates[4:]], expected)
    assert all(jax.tree.leaves(jax.tree.map(jnp.array_equal, state[1:], wanted[1:])))
    assert state.skipped_count == 3


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64])
def test_the_buffer_gives_all_that_was_cut_off(dtype):
    draw = np.random.default_rng(0)
    gradients = [jnp.asarray(draw.integers(-8, 9, 5), dtype) for _ in range(40)]
    method = clipax.with_error_feedback(optax.clip(2.0), memory="buffer")
    if dtype == jnp.complex64:
        method = clipax.with_error_feedback(clipax.clip_by_value(2.0), memory="buffer")
    updates, state = run(method, gradients)
    given, asked = sum(map(jnp.asarray, updates)), sum(gradients)
    np.testing.assert_array_equal(given + state.memory["buffer"].astype(dtype), asked)
    assert (jnp.abs(state.memory["buffer"]) > 0).any()
    updates, state = run(method, [*gradients, *[jnp.zeros(5, dtype)] * 60])
    np.testing.assert_array_equal(sum(map(jnp.asarray, updates)), asked)
    assert not state.memory["buffer"].any()


def test_hyperparameters_may_be_traced():
    clip = clipax.clip_by_global_norm(2.0)
    made = optax.inject_hyperparams(clipax.with_error_feedback, static_args=("inner", "memory"))(
        clip, b1=0.75, step=0.5
    )
    plain = clipax.with_error_feedback(clip, b1=0.75, step=0.5)
    gradients = [jnp.array([3.0, 4.0]), jnp.array([1.0, -2.0])]
    np.testing.assert_allclose(run(made, gradients)[0], run(plain, gradients)[0], rtol=1e-6)


def test_what_a_clip_makes_of_an_overflow_is_not_remembered():
    # Finite entries whose norm is not: this clip hands on NaN.
    clip = clipax.clip_by_global_norm(1.0, nonfinite="propagate")
    gradients = [jnp.full(4, 3e38), jnp.full(4, 0.1)]
    updates, state = run(clipax.with_error_feedback(clip), gradients)
    assert np.isfinite(state.memory["estimate"]).all()
    np.testing.assert_allclose(updates[1], gradients[1])


# Their mean is zero. Their geometric median is not, and that is what small clipped steps lead to.
POINTS = [[2.0, 0.0], [0.0, 1.0], [-2.0, -1.0]]


def descend(method, rate, steps=20_000):
    """Root mean square of the iterates of the second half: gradient `x` and noise of `POINTS`."""
    drawn = jax.random.randint(jax.random.key(0), (steps,), 0, len(POINTS))

    def step(carry, noise):
        x, state = carry
        update, state = method.update(x + noise, state)
        return (x - rate * update, state), jnp.sum(x**2)

    x = jnp.array([1.0, 1.0])
    _, squares = jax.lax.scan(step, (x, method.init(x)), jnp.array(POINTS)[drawn])
    return math.sqrt(jnp.mean(squares[steps // 2 :]))


@pytest.mark.parametrize(
    ("options", "converges"),
    [
        (None, False),
        ({}, False),
        ({"memory": "buffer"}, True),
        ({"b1": 0.99}, True),
        ({"b1": 0.99, "step": 0.5}, True),
    ],
    ids=["clip", "Clip21", "U-Clip", "momentum", "Clip21-SGD2M"],
)
def test_under_noise_clips_and_clip21_stay_away_from_the_minimum(options, converges, x64):
    clip = clipax.clip_by_global_norm(0.1)
    method = clip if options is None else clipax.with_error_feedback(clip, **options)
    for rate in (0.05, 0.0125):
        distance, unclipped = descend(method, rate), descend(optax.identity(), rate)
        if converges:
            # As without a clip, where the distance falls with the root of the learning rate.
            assert distance == pytest.approx(unclipped, rel=0.1)
        else:
            assert distance > 0.5
    if converges:
        assert distance < 0.15


@pytest.mark.parametrize("options", [{"memory": "buffer"}, {"b1": 0.9}], ids=str)
def test_a_looser_clip_in_front_bounds_what_an_outlier_leaves(options):
    faults = ("1e38", "spike", "alternating", "fall")
    method = clipax.with_error_feedback(clipax.clip_by_global_norm(1.0), **options)
    alone = testing.inject_faults(method, faults=faults)
    assert testing.DIES in {row.verdict for row in alone.rows}
    bounded = optax.chain(clipax.clip_by_global_norm(10.0), method)
    rows = testing.inject_faults(bounded, faults=faults).rows
    assert testing.DIES not in {row.verdict for row in rows}
    assert max(row.steps for row in rows) <= 50
