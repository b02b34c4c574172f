"""Optimizers inside `skip_nonfinite`, and behind it, meet a gradient that is not finite."""

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
