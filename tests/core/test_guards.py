"""What happens to optimizers around and behind a gradient that is not finite."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax

PARAMS = {"w": jnp.array([1.0, -2.0])}
GOOD = {"w": jnp.array([0.3, 0.4])}
BAD = {"w": jnp.array([0.3, jnp.nan])}


def run(optimizer, gradients):
    params, state = PARAMS, optimizer.init(PARAMS)
    for grads in gradients:
        updates, state = jax.jit(optimizer.update)(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def test_a_clip_in_front_of_adam_does_not_keep_it_still_but_the_guard_does():
    adam = optax.chain(clipax.clip_by_global_norm(1.0), optax.adam(0.1))
    before, _ = run(adam, [GOOD])
    moved, _ = run(adam, [GOOD, BAD])
    assert not np.array_equal(before["w"], moved["w"])
    still, state = run(clipax.skip_nonfinite(adam), [GOOD, BAD])
    chex.assert_trees_all_equal(still, before)
    assert state.skipped_count == 1
    assert not state.is_finite


def test_a_skipped_step_leaves_no_trace():
    guarded = clipax.skip_nonfinite(optax.adam(0.1))
    with_fault = run(guarded, [GOOD, BAD, GOOD])
    without = run(guarded, [GOOD, GOOD])
    chex.assert_trees_all_equal(with_fault[0], without[0])
    chex.assert_trees_all_equal(with_fault[1].inner, without[1].inner)


def test_the_guard_belongs_in_front_of_multi_steps():
    # MultiSteps multiplies what it accumulated by zero: a NaN that gets in stays for ever.
    inside = optax.MultiSteps(clipax.skip_nonfinite(optax.sgd(0.1)), 2)
    outside = clipax.skip_nonfinite(optax.MultiSteps(optax.sgd(0.1), 2))
    gradients = [BAD, GOOD, GOOD, GOOD, GOOD]
    lost, _ = run(inside, gradients)
    chex.assert_trees_all_equal(lost, PARAMS)
    kept, _ = run(outside, gradients)
    expected, _ = run(optax.MultiSteps(optax.sgd(0.1), 2), gradients[1:])
    chex.assert_trees_all_equal(kept, expected)


@pytest.mark.parametrize("huge", [1e38, 3e38])
def test_huge_but_finite_entries_are_not_skipped(huge):
    guarded = clipax.skip_nonfinite(clipax.clip_by_global_norm(1.0))
    _, state = run(guarded, [{"w": jnp.array([huge, 0.0])}])
    assert state.skipped_count == 0


def test_keys_and_counters_in_the_inner_state_are_selected():
    guarded = clipax.skip_nonfinite(optax.add_noise(0.1, 0.5, jax.random.key(0)))
    _, state = run(guarded, [BAD])
    assert jnp.array_equal(
        jax.random.key_data(state.inner.rng_key), jax.random.key_data(jax.random.key(0))
    )


def test_extra_arguments_reach_the_inner_transformation():
    plateau = clipax.skip_nonfinite(optax.contrib.reduce_on_plateau(patience=1))
    state = plateau.init(PARAMS)
    _, state = plateau.update(GOOD, state, PARAMS, value=jnp.array(1.0))
    assert state.inner.best_value == 1.0


@pytest.mark.parametrize("nonfinite", ["zero", "propagate"])
def test_value_clips_are_entry_by_entry(nonfinite):
    clip = clipax.clip_by_value(1.0, nonfinite=nonfinite)
    grads = jnp.array([0.5, -3.0, jnp.inf, -jnp.inf, jnp.nan])
    update, _ = clip.update(grads, clip.init(grads))
    bad = [1, -1, 0] if nonfinite == "zero" else [np.nan] * 3
    np.testing.assert_array_equal(update, [0.5, -1, *bad])


def test_value_clips_of_complex_entries_keep_the_phase():
    clip = clipax.clip_by_value(1.0)
    grads = jnp.array([3 + 4j, 0.1j, complex(np.inf, 0)])
    update, _ = clip.update(grads, clip.init(grads))
    np.testing.assert_allclose(update, [0.6 + 0.8j, 0.1j, 0], rtol=1e-6)


@pytest.mark.parametrize("nonfinite", ["zero", "propagate"])
def test_delayed_updates_never_remember_what_is_not_finite(nonfinite):
    late = clipax.delay_updates(1, nonfinite=nonfinite)
    state = late.init(jnp.zeros(2))
    now, state = late.update(jnp.array([1.0, jnp.nan]), state)
    np.testing.assert_array_equal(now, [0, 0 if nonfinite == "zero" else np.nan])
    later, state = late.update(jnp.zeros(2), state)
    np.testing.assert_array_equal(later, [1, 0])


def test_extra_arguments_pass_through_multi_steps():
    inner = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(patience=1))
    guarded = clipax.skip_nonfinite(optax.MultiSteps(inner, 2))
    state = guarded.init(PARAMS)
    for value in (1.0, 0.5):
        _, state = guarded.update(GOOD, state, PARAMS, value=value)
    assert state.steps == 2


def test_functions_among_the_extra_arguments():
    guarded = clipax.skip_nonfinite(optax.lbfgs())
    value, grads = jax.value_and_grad(lambda p: jnp.sum(p["w"] ** 2))(PARAMS)
    updates, _ = guarded.update(
        grads,
        guarded.init(PARAMS),
        PARAMS,
        value=value,
        grad=grads,
        value_fn=lambda p: jnp.sum(p["w"] ** 2),
    )
    assert jnp.linalg.norm(updates["w"]) > 0


def test_gradients_wider_than_the_parameters_are_guarded_too():
    params = {"w": jnp.ones(2, jnp.bfloat16)}
    guarded = clipax.skip_nonfinite(optax.sgd(0.1, momentum=0.9))
    _, state = guarded.update(GOOD, guarded.init(params), params)
    assert jax.tree.leaves(state.inner)[0].dtype == jnp.bfloat16


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


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("response", ["sqrt", "rational", "tanh", "huber", "hard"])
def test_schedules_that_undershoot_let_next_to_nothing_pass(value, response):
    def schedule(count):
        return jnp.full((), value)

    if response == "hard":
        clip = clipax.clip_by_global_norm(schedule)
    else:
        clip = clipax.clip_by_smooth_norm(schedule, response=response)
    for grads in (jnp.zeros(2), jnp.ones(2)):
        update, state = clip.update(grads, clip.init(grads))
        np.testing.assert_allclose(update, [0, 0], atol=1e-30)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_value_clips_of_float16_stay_finite_for_large_thresholds():
    clip = clipax.clip_by_value(1e6)
    grads = jnp.array([jnp.inf, 1.0], jnp.float16)
    np.testing.assert_array_equal(clip.update(grads, clip.init(grads))[0], [65504, 1])
    shrunk = clipax.clip_by_value(lambda count: -1.0)
    np.testing.assert_array_equal(shrunk.update(grads, shrunk.init(grads))[0], [0, 0])
