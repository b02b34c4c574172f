"""Spikes are left out without a trace, and no rule can stop a run for ever."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import clipax
from clipax import thresholds

PARAMS = {"w": jnp.array([1.0, -2.0])}
ADAM = optax.adam(0.1)
GUARDED = clipax.skip_spikes(ADAM)
BY_NUMBER = clipax.skip_spikes(ADAM, 5.0)
# Steps of which only those that are taken matter.
PATIENT = clipax.skip_spikes(optax.identity(), max_consecutive=1000)


def of_norm(size):
    return {"w": jnp.array([0.6, 0.8]) * size}


@functools.cache
def compiled(optimizer):
    return jax.jit(optimizer.update)


def run(optimizer, gradients, params=PARAMS):
    """Parameters and state at the end, and which steps were taken."""
    state, counts = optimizer.init(params), [0]
    for gradient in gradients:
        updates, state = compiled(optimizer)(gradient, state, params)
        params = jax.tree.map(np.add, params, updates)
        counts.append(int(state.skipped_count))
    return params, state, list(np.diff(counts) == 0)


def taken(optimizer, sizes):
    return run(optimizer, [of_norm(size) for size in sizes])[2]


@pytest.mark.parametrize("bad", [1e6, 1e38, np.nan, np.inf])
@pytest.mark.parametrize("guarded", [GUARDED, BY_NUMBER], ids=["median", "number"])
def test_a_skipped_step_leaves_no_trace(bad, guarded):
    good = [of_norm(size) for size in (1.0, 2.0, 1.5)]
    params, state, steps = run(guarded, [*good, of_norm(bad)])
    expected, before, _ = run(guarded, good)
    chex.assert_trees_all_equal(params, expected)
    chex.assert_trees_all_equal(state.inner, before.inner)
    assert steps == [True, True, True, False]
    assert (state.skipped_count, state.steps) == (1, 4)
    assert state.spike_count == np.isfinite(bad)
    assert state.nonfinite_count == (not np.isfinite(bad))
    assert state.is_finite == np.isfinite(bad)
    assert clipax.metrics(state)["skipped_count"] == 1


def test_what_the_detector_remembers():
    update = compiled(GUARDED)
    _, one = update(of_norm(3.0), GUARDED.init(PARAMS), PARAMS)
    for nothing in (np.nan, np.inf, 0.0):  # no size, or none that says something of others
        _, state = update(of_norm(nothing), one, PARAMS)
        chex.assert_trees_all_equal(state.watch.rules, one.watch.rules)
    _, spiked = update(of_norm(1e6), one, PARAMS)
    assert spiked.skipped_count == 1
    assert spiked.watch.rules.before.rows.filled == 2
    np.testing.assert_allclose(spiked.watch.rules.before.rows.norms[:2], [3.0, 1e6], rtol=1e-6)
    assert (spiked.norm, spiked.threshold) == (pytest.approx(1e6), pytest.approx(30.0))


@pytest.mark.parametrize("before", [1, 2, 10, 50, 120])
@pytest.mark.parametrize("shift", [1e3, 1e-3])
def test_a_permanent_change_of_level_is_accepted_after_half_a_window(before, shift):
    steps = taken(PATIENT, [1.0] * before + [shift] * 60)
    skipped = 0 if shift < 1 else min(before, 25)
    assert steps == [True] * before + [False] * skipped + [True] * (60 - skipped)


@pytest.mark.parametrize(
    "threshold", [10.0, lambda count: 10.0, None, thresholds.rms_of_norms(2.0)]
)
def test_whatever_the_threshold_so_many_in_a_row_are_skipped_and_no_more(threshold):
    guarded = clipax.skip_spikes(optax.identity(), threshold, max_consecutive=3)
    steps = taken(guarded, [1.0] * 8 + [1e4] * 3 + [1.0] + [1e4] * 6)
    assert steps[:8] + steps[11:12] == [True] * 9
    row = [False] * 3
    assert steps[8:11] == row
    assert steps[12:] == row + [True] * 3


def test_the_row_goes_on_after_a_bad_step_and_ends_with_an_ordinary_one():
    guarded = clipax.skip_spikes(optax.identity(), 1.0, max_consecutive=2)
    sizes = [9.0, np.nan, 9.0, 9.0, np.nan, 9.0, 0.5, 9.0, 9.0, 9.0]
    wanted = [False, False, False, True, False, True, True, False, False, True]
    assert taken(guarded, sizes) == wanted
    state = run(guarded, [of_norm(size) for size in sizes])[1]
    assert (state.skipped_count, state.spike_count, state.nonfinite_count) == (6, 7, 2)


def test_bad_steps_are_skipped_for_ever():
    assert not any(taken(GUARDED, [np.nan] * 40))


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_a_constant_norm_is_never_skipped(size):
    assert all(taken(PATIENT, [size] * 120))


@pytest.mark.parametrize("zeros_first", [True, False])
def test_zero_gradients_do_not_freeze_the_run(zeros_first):
    sizes = [0.0, 1.0, 1.0, 0.0, 0.0, 1.0] if zeros_first else [1.0, 0.0, 1.0, 1.0]
    assert all(taken(PATIENT, sizes))


def test_zero_gradients_neither_count_in_a_row_of_spikes_nor_end_it():
    guarded = clipax.skip_spikes(optax.identity(), 1.0, max_consecutive=2)
    steps = taken(guarded, [5.0, 0.0, jnp.nan, 5.0, 0.0, 0.0, 5.0])
    assert steps == [False, True, False, False, True, True, True]


def test_schedules_count_skipped_steps():
    guarded = clipax.skip_spikes(optax.identity(), lambda count: 1.0 + count)
    steps = taken(guarded, [2.5, 2.5, 2.5, 9.0, 4.5])
    assert steps == [False, False, True, False, True]


def test_a_threshold_that_needs_the_parameters():
    def update(norms, state, context):
        return context.param_norms, state

    relative = thresholds.Threshold(lambda shape: (), update, needs_params=True)
    guarded = clipax.skip_spikes(optax.sgd(0.0), relative)
    norm = float(clipax.global_norm(PARAMS))
    assert taken(guarded, [0.9 * norm, 1.1 * norm]) == [True, False]
    with pytest.raises(ValueError, match="`params` must be given"):
        guarded.update(PARAMS, guarded.init(PARAMS))


def test_in_front_of_multi_steps_spikes_are_not_accumulated():
    gradients = [of_norm(size) for size in (1.0, 1e6, 2.0, np.nan, 1.0, 1.5)]
    guarded = clipax.skip_spikes(optax.MultiSteps(ADAM, 2), 5.0)
    params, state, _ = run(guarded, gradients)
    expected, wanted, _ = run(guarded, [gradients[place] for place in (0, 2, 4, 5)])
    chex.assert_trees_all_equal(params, expected)
    chex.assert_trees_all_equal(state.inner, wanted.inner)


def test_extra_arguments_and_functions_among_them():
    def update(updates, state, params, *, value, value_fn):
        return updates, value_fn(params) + value

    inner = optax.GradientTransformationExtraArgs(lambda params: jnp.zeros(()), update)
    guarded = clipax.skip_spikes(inner, 5.0)
    more = {"value": 0.5, "value_fn": lambda params: jnp.sum(params["w"])}
    _, state = guarded.update(of_norm(1.0), guarded.init(PARAMS), PARAMS, **more)
    assert state.inner == -0.5
    _, state = guarded.update(of_norm(9.0), state, PARAMS, **more | {"value": 7.0})
    assert state.inner == -0.5


def test_all_devices_skip_together():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    guarded = clipax.skip_spikes(optax.trace(0.5), 5.0, axis_name="x")

    def train(gradients):
        # A spike in the rows of one device, and in what all hold.
        state = guarded.init(jax.tree.map(lambda leaf: leaf[0], gradients))
        return jax.lax.scan(lambda s, g: guarded.update(g, s)[::-1], state, gradients)[1]

    rows = jnp.full((4, 8), 0.5).at[1, 5].set(100.0)
    gradients = {"rows": rows, "all": jnp.ones((4, 2)).at[2, 0].set(jnp.nan)}
    spec = {"rows": P(None, "x"), "all": P()}
    sharded = jax.jit(jax.shard_map(train, mesh=mesh, in_specs=(spec,), out_specs=spec))
    plain = clipax.skip_spikes(optax.trace(0.5), 5.0)
    state, wanted = plain.init({"rows": rows[0], "all": jnp.ones(2)}), []
    for one, every in zip(gradients["rows"], gradients["all"], strict=True):
        out, state = compiled(plain)({"rows": one, "all": every}, state)
        wanted.append(out)
    chex.assert_trees_all_close(
        sharded(gradients), jax.tree.map(lambda *leaves: jnp.stack(leaves), *wanted)
    )
    assert state.skipped_count == 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0.1,), TypeError, "`inner` must be an optax gradient transformation"),
        ((ADAM, 0.0), ValueError, "`threshold` must be positive, got 0.0."),
        ((ADAM, "1"), TypeError, "`threshold` must be a number"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        clipax.skip_spikes(*arguments)
    with pytest.raises(ValueError, match="`max_consecutive` must be at least 1"):
        clipax.skip_spikes(ADAM, max_consecutive=0)


def test_any_number_in_a_row_can_be_asked_for():
    guarded = clipax.skip_spikes(optax.identity(), 1.0, max_consecutive=10**12)
    assert not any(taken(guarded, [2.0] * 3))


def test_inner_states_of_numpy_and_python_numbers():
    def update(updates, state, params=None):
        return updates, (state[0] + 1, state[1])

    inner = optax.GradientTransformation(lambda params: (np.zeros((), np.int32), 3), update)
    for wrapper in (clipax.skip_nonfinite, clipax.skip_spikes):
        optimizer = wrapper(inner)
        state = optimizer.init(jnp.ones(2))
        _, state = optimizer.update(jnp.ones(2), state)
        assert state.inner[0] == 1
        assert state.inner[1] == 3
