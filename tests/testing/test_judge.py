"""The fault-injection suite finds planted bugs, and passes what is right."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
import pytest

import clipax
from clipax.testing import BREAKS, DELAYED, DIES, FAULTS, RECOVERS, inject_faults
from clipax.testing._report import CLIPS, DOES_NOT_CLIP, NOT_APPLICABLE


def transformation(init, factor):
    """Multiplies gradients with a function of norm and state, which also gives the new state."""

    def update(updates, state, params=None):
        share, state = factor(optax.tree.norm(updates), state)
        return jax.tree.map(lambda leaf: share * leaf, updates), state

    return optax.GradientTransformation(lambda params: init, update)


def test_what_is_right_passes_every_fault():
    report = inject_faults(clipax.clip_by_global_norm(1.0))
    assert report.passed(RECOVERS)
    assert report.clips
    assert report.state_kept
    assert report.state_finite
    assert {row.clipping for row in report.rows} == {CLIPS}
    assert {row.fault for row in report.rows} == set(FAULTS)
    assert {row.when for row in report.rows} == {"first", "early", "late", "always"}
    assert [row.when for row in report.rows if row.fault == "empty_leaf"] == ["always"]
    assert all(row.steps == 0 and row.difference < 1e-3 for row in report.rows)


def test_a_clip_that_does_not_clip():
    def clip(norm, state):  # the threshold is out of reach
        return jnp.where(jnp.isfinite(norm), jnp.minimum(1, 1e9 / norm), 0.0), state

    report = inject_faults(transformation((), clip), faults=["spike", "zero"])
    assert not report.clips
    assert {row.clipping for row in report.rows} == {NOT_APPLICABLE}


@pytest.mark.parametrize("method", [optax.ema(0.9), optax.adam(0.1)], ids=["ema", "adam"])
def test_a_nan_in_the_state(method):
    report = inject_faults(method, faults=["nan", "infinity", "zero"])
    for row in report.rows:
        bad = row.fault != "zero"
        assert (row.verdict == BREAKS) == bad
        assert row.state_finite != bad
        assert row.state_kept is (False if bad else None)


def test_a_threshold_that_freezes_after_a_zero_gradient():
    def least(norm, threshold):
        # At least the smallest number, for what to divide by; NaN compares as false.
        threshold = jnp.where(norm < threshold, norm, threshold)
        return jnp.minimum(1, threshold / jnp.maximum(norm, 1e-30)), threshold

    report = inject_faults(transformation(jnp.array(1e30), least), faults=["zero", "spike"])
    for when in ("early", "late"):
        zero, spike = report.row("zero", when), report.row("spike", when)
        assert (zero.verdict, zero.steps, zero.update_finite) == (DIES, None, True)
        assert spike.verdict == RECOVERS
    assert report.passed({"zero": DIES})
    assert not report.passed({"spike": DIES})


def test_bad_steps_that_are_multiplied_with_zero():
    def guarded(norm, state):
        return jnp.where(jnp.isfinite(norm), 1.0, 0.0), state

    report = inject_faults(transformation((), guarded), faults=["nan", "spike"])
    for row in report.rows:
        assert row.verdict == (BREAKS if row.fault == "nan" else RECOVERS)
        assert row.update_finite == (row.fault != "nan")
        assert row.state_finite


def test_what_never_moves_is_dead():
    report = inject_faults(optax.scale(0.0), faults=["spike", "zero"])
    assert {row.verdict for row in report.rows} == {DIES}


def test_a_clip_that_is_dead_although_ordinary_steps_do_not_show_it():
    def largest(norm, threshold):  # of all norms so far, and ten times an ordinary one
        return jnp.minimum(1, threshold / jnp.maximum(norm, 1e-30)), jnp.maximum(threshold, norm)

    report = inject_faults(transformation(jnp.array(10.0), largest), faults=["zero", "spike"])
    assert report.clips
    for when in ("early", "late"):
        assert report.row("zero", when).verdict == RECOVERS
        spike = report.row("spike", when)
        assert (spike.verdict, spike.clipping, spike.steps) == (DIES, DOES_NOT_CLIP, 0)


def test_what_forgets_is_delayed_for_as_long_as_it_takes():
    # 1e6 0.8^k (1 - 0.8) against ordinary momentum of a third: below a fifth from step 67 on.
    report = inject_faults(optax.ema(0.8, debias=False), faults=["spike"])
    for row in report.rows:
        assert row.verdict == DELAYED
        assert 55 < row.steps < 80
    assert report.verdict == DELAYED
    assert report.passed()
    assert not report.passed(RECOVERS)
    quickly = inject_faults(optax.ema(0.8, debias=False), faults=["spike"], steps=50)
    assert quickly.verdict == DIES


def test_what_delays_its_updates_does_not_clip_by_that():
    assert not inject_faults(clipax.delay_updates(2), faults=["zero"]).clips
    delayed = optax.chain(clipax.clip_by_global_norm(1.0), clipax.delay_updates(2))
    assert inject_faults(delayed, faults=["zero"]).clips


def test_counts_and_infinite_beginnings_are_no_trace_of_a_bad_step():
    def smallest(norm, state):
        count, least = state
        finite = jnp.isfinite(norm)
        return 1.0, (count + 1, jnp.where(finite, jnp.minimum(least, norm), least))

    best = transformation((jnp.array(0), jnp.array(jnp.inf)), smallest)
    guarded = inject_faults(optax.apply_if_finite(optax.adam(0.1), 5), faults=["nan"])
    assert guarded.state_kept
    assert guarded.passed(RECOVERS)
    row = inject_faults(best, faults=["zero"]).row("zero", "early")
    assert row.state_finite


def test_states_may_hold_keys_and_python_numbers_and_change_their_types():
    def init(params):
        return {"key": jax.random.key(0), "steps": 0, "half": jnp.zeros((), jnp.bfloat16)}

    def update(updates, state, params=None):
        key, now = jax.random.split(state["key"])
        size = 1 + 0.01 * jax.random.normal(now)
        new = {"key": key, "steps": state["steps"] + 1.0, "half": state["half"] + size}
        return jax.tree.map(lambda leaf: size * leaf, updates), new

    noisy = optax.GradientTransformation(init, update)
    report = inject_faults(noisy, faults=["spike"])
    assert report.passed(RECOVERS)
    assert report.state_finite


def test_blocks_that_are_finite_may_go_on():
    # The telemetry of a leaf is that of its finite units: neither kept nor what it was.
    momentum = clipax.scale_by_norm(clipax.norms.adagrad_norm(1.0), b1=0.9, scope="unit")
    report = inject_faults(momentum, faults=["nan"])
    assert report.state_kept
    assert report.passed(RECOVERS)

    def in_turns(updates, state, params=None):
        """Leaf by leaf, every second finite gradient is doubled: phases that drift apart."""
        finite = jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), updates)
        updates = jax.tree.map(
            lambda leaf, ok, turn: jnp.where(ok, leaf * (1 + turn), 0), updates, finite, state
        )
        return updates, jax.tree.map(lambda ok, turn: jnp.where(ok, 1 - turn, turn), finite, state)

    turns = optax.GradientTransformation(
        lambda params: jax.tree.map(lambda leaf: jnp.zeros(()), params), in_turns
    )
    report = inject_faults(turns, faults=["nan"])
    assert report.state_kept
    assert report.passed(RECOVERS)

    def careless(updates, state, params=None):
        updates = jax.tree.map(jnp.nan_to_num, updates)
        return updates, jax.tree.map(lambda one, old: 0.9 * old + one, updates, state)

    forgets = optax.GradientTransformation(lambda params: params, careless)
    assert not inject_faults(forgets, faults=["nan"]).state_kept


def test_squares_that_overflow_in_float16():
    def clip(norm, state):
        return jnp.minimum(1, 1.0 / norm), state

    row = inject_faults(
        optax.chain(transformation((), clip), optax.trace(0.9)), faults=["float16_overflow"]
    ).row("float16_overflow", "late")
    assert row.update_finite  # a norm of infinity makes the step zero
    safe = inject_faults(clipax.clip_by_global_norm(1.0), faults=["float16_overflow"])
    assert safe.passed(RECOVERS)
    squared = inject_faults(optax.scale_by_rms(), faults=["float16_overflow"])
    assert squared.row("float16_overflow", "late").verdict == BREAKS


def test_a_transformation_that_does_not_take_a_leaf_without_entries():
    def largest(updates, state, params=None):
        return jax.tree.map(lambda leaf: leaf / jnp.max(jnp.abs(leaf)), updates), state

    method = optax.GradientTransformation(lambda params: (), largest)
    report = inject_faults(method, faults=["empty_leaf", "spike"])
    row = report.row("empty_leaf", "always")
    assert row.verdict == BREAKS
    assert "ValueError" in row.note
    assert "ValueError" in str(report)
    assert report.row("spike", "late").verdict == RECOVERS


def test_a_method_that_sets_itself_by_its_first_norm_is_seen():
    def sized(norm, usual):
        usual = jnp.where(jnp.isfinite(norm) & (usual == 0), norm, usual)
        safe = jnp.where(jnp.isfinite(norm), norm, 1)
        factor = jnp.clip(usual / safe, 0.1, 10) * jnp.minimum(1, 1 / safe)
        return jnp.where(jnp.isfinite(norm), factor, jnp.nan), usual

    method = transformation(jnp.zeros(()), sized)
    report = inject_faults(method, faults=["spike", "dip", "fall"])
    for row in report.rows:
        assert (row.verdict == DIES) == (row.when == "first")


@pytest.mark.parametrize("window", [20, 80])
def test_a_memory_of_zeros_is_seen_as_far_as_it_reaches(window):
    def average(norm, norms):
        norms = jnp.append(norms[1:], norm)
        limit = 2 * jnp.median(norms)
        return jnp.minimum(1, limit / jnp.maximum(norm, 1e-30)), norms

    method = transformation(jnp.ones(window), average)
    report = inject_faults(method, faults=["zero", "zeros", "frozen"])
    assert {row.verdict for row in report.rows if row.fault == "zero"} == {RECOVERS}
    assert {row.verdict for row in report.rows if row.fault == "frozen"} == {RECOVERS}
    zeros = [row for row in report.rows if row.fault == "zeros"]
    assert all(abs(row.steps - window // 2) < 2 for row in zeros)
    assert all(row.verdict == (RECOVERS if window == 20 else DELAYED) for row in zeros)


def test_a_frozen_leaf_is_seen_where_each_has_a_threshold_of_its_own():
    def average(leaf, mean):
        norm = jnp.linalg.norm(leaf)
        mean = 0.9 * mean + 0.1 * jnp.minimum(norm, 1.05 * mean)
        return leaf * jnp.minimum(1, 2 * mean / jnp.maximum(norm, 1e-30)), mean

    def update(updates, state, params=None):
        leaves, structure = jax.tree.flatten(updates)
        parts = zip(*map(average, leaves, jax.tree.leaves(state)), strict=True)
        return tuple(jax.tree.unflatten(structure, part) for part in parts)

    by_leaf = optax.GradientTransformation(
        lambda params: jax.tree.map(lambda leaf: jnp.ones(()), params), update
    )
    report = inject_faults(by_leaf, faults=["zero", "frozen"])
    assert {row.verdict for row in report.rows if row.fault == "frozen"} == {DIES}
