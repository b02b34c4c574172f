"""A norm of exactly zero says nothing of the size of gradients: no threshold remembers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax.catalogue import ENTRIES
from clipax.thresholds import Context, Threshold, as_threshold
from tests.contract.cases import BASIC, REPRESENTATIVES
from tests.contract.gradients import NESTED, mild, nest, parameters
from tests.contract.harness import assert_all_finite, assert_same, jitted, memory, method, run
from tests.double import enable_x64
from tests.thorough import thorough

EACH = pytest.mark.parametrize("name", BASIC)
THRESHOLDS = [name for name, entry in ENTRIES.items() if entry.kind == "threshold"]

# What remembers zero norms all the same, as its formula or its purpose wants.
REMEMBERING_ZEROS = {
    "norms.adam_norm": "a stepsize: the scale falls by sqrt(b2)",
    "scale_by_adam_norm": "a stepsize: the scale falls by sqrt(b2)",
    "clip_adam_norm": "a stepsize: the scale falls by sqrt(b2)",
    "clipped_sstm": "counts steps, in its stepsize and its threshold",
    "monitor_norms": "counts norms, decides on none",
}
# Zeros before it make a step smaller, as the formula wants.
COUNTING_STEPS = {
    "clipped_sstm": "the threshold falls with the number of steps",
    "stable_adamw": "Adam corrects less bias with every step",
    "stable_spam": "Adam corrects less bias with every step",
    "spam": "Adam corrects less bias with every step, and begins anew at the next reset",
}
# Zeros before it make the factor of a gradient smaller.
RELATIVE = {
    "clipped_sstm": "the threshold falls with the number of steps",
    "stable_adamw": "measures the gradient in units of Adam's average, into which zeros enter",
}


def _zero() -> Any:
    return jax.tree.map(jnp.zeros_like, nest(parameters(NESTED)))


def _sizes(updates: Sequence[Any]) -> np.ndarray:
    return np.array([float(clipax.global_norm(update)) for update in updates])


def _follow(threshold: Threshold, norms: Any, state: Any) -> list[tuple[Any, Any]]:
    """The thresholds and the states after each of the norms."""
    update, found = jax.jit(threshold.update), []
    for count, now in enumerate(jnp.asarray(norms, jnp.float32)):
        context = Context(jnp.array(count), param_norms=jnp.ones_like(now))
        limit, state = update(now, state, context)
        found.append((limit, state))
    return found


@pytest.mark.parametrize("dtype", thorough(["float32", "float64"], ["float32"]))
@pytest.mark.parametrize("name", THRESHOLDS)
def test_a_threshold_keeps_the_rows_of_zeros(name: str, dtype: str, x64: None) -> None:
    made = ENTRIES[name].factory(**ENTRIES[name].example)
    threshold = as_threshold(made)
    norms = np.exp(np.random.default_rng(0).standard_normal((40, 4)))
    with enable_x64(dtype == "float64"):
        for warm in (0, 40):
            start = threshold.init((4,))
            before = _follow(threshold, norms[:warm], start)[-1][1] if warm else start
            # Zero, a subnormal number, and two that are remembered.
            for limit, after in _follow(threshold, [[0.0, 1e-40, 1.0, 2.0]] * 3, before):
                assert (limit > 0).all()
                for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True):
                    np.testing.assert_array_equal(new[:2], old[:2])
            if jax.tree.leaves(before):
                assert any(
                    not np.array_equal(new[2:], old[2:])
                    for new, old in zip(
                        jax.tree.leaves(after), jax.tree.leaves(before), strict=True
                    )
                )


def test_a_threshold_of_ones_own_remembers_no_zeros_either() -> None:
    def least(norms: jax.Array, state: Any, context: Context) -> tuple[Any, Any]:
        smallest, steps = state
        smallest = jnp.where(steps > 0, jnp.minimum(smallest, norms), norms)
        return 2 * smallest / (norms / norms), (smallest, steps + 1)  # NaN for a zero

    def init(shape: tuple[int, ...]) -> Any:
        return jnp.zeros(shape), jnp.zeros(shape, jnp.int32)

    mine = as_threshold(Threshold(init, least))
    assert as_threshold(mine) is mine
    found = _follow(mine, [[0.0, 3.0], [4.0, 0.0], [0.0, 0.0]], mine.init((2,)))
    np.testing.assert_array_equal(
        [limit for limit, _ in found], [[np.inf, 6], [8, np.inf], [np.inf] * 2]
    )
    np.testing.assert_array_equal(found[-1][1], [[4, 3], [1, 1]])
    clip = clipax.clip_by_global_norm(Threshold(init, least))
    updates, _ = run(
        clip.update,
        clip.init(jnp.ones(1)),
        [jnp.array([size]) for size in (0.0, 4.0, 0.0, 40.0)],
        None,
    )
    np.testing.assert_array_equal(np.ravel(updates), [0, 4, 0, 8])


@pytest.mark.parametrize("name", [name for name in BASIC if name not in COUNTING_STEPS])
@pytest.mark.parametrize("zeros", [1, 210])
def test_after_zeros_a_good_step_passes_as_if_it_were_the_first(name: str, zeros: int) -> None:
    params, good = nest(parameters(NESTED)), [nest(tree) for tree in mild(NESTED, 3)]
    start = method(name).init(params)
    wanted, _ = run(jitted(name), start, good, params)
    found, states = run(jitted(name), start, [_zero()] * zeros + good, params)
    assert_all_finite(states)
    assert (_sizes(found[zeros:]) >= _sizes(wanted) * (1 - 1e-5)).all()


@pytest.mark.parametrize("name", [name for name in BASIC if name not in RELATIVE])
def test_a_block_that_was_frozen_is_scaled_as_if_it_had_not_been(name: str) -> None:
    params, good = nest(parameters(NESTED)), [nest(tree) for tree in mild(NESTED, 40)]
    start = method(name).init(params)
    _, wanted = run(jitted(name), start, good[:31], params)
    _, found = run(jitted(name), start, [*good[:30], *[_zero()] * 210, good[30]], params)
    assert_all_finite(found[-1])
    try:
        factors = [clipax.metrics(state[-1]) for state in (found, wanted)]
    except ValueError:  # without telemetry nothing is scaled
        return
    for key in factors[0]:
        if key.endswith("clip_factor"):
            assert (factors[0][key] >= factors[1][key] * (1 - 1e-5)).all(), key


@pytest.mark.parametrize("name", thorough(BASIC, {*REPRESENTATIVES, *REMEMBERING_ZEROS}))
def test_a_link_behind_a_clip_takes_no_bad_step_for_a_small_one(name: str) -> None:
    params, good = nest(parameters(NESTED)), [nest(tree) for tree in mild(NESTED, 12)]
    bad = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), params)
    tx = optax.chain(clipax.clip_by_global_norm(1e6), method(name))
    update = jax.jit(tx.update)
    _, states = run(update, tx.init(params), [*good, bad], params)
    before, after = (_rules(memory(state[1])) for state in states[-2:])
    same = before.keys() == after.keys() and all(
        np.array_equal(before[path], after[path]) for path in before
    )
    assert same != (name in REMEMBERING_ZEROS), (
        "Remembers the zero update that the link in front made of a NaN, or is in "
        "REMEMBERING_ZEROS and does not."
    )


def _rules(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is remembered of norms."""
    return {path: value for path, value in found.items() if ".rules" in path}


@pytest.mark.parametrize("scope", thorough(["leaf", "unit"], but=["leaf"]))
@pytest.mark.parametrize("name", THRESHOLDS)
def test_a_frozen_block_freezes_its_rows_alone(name: str, scope: str) -> None:
    rule = clipax.norms.clip(ENTRIES[name].factory(**ENTRIES[name].example))
    tx = clipax.scale_by_norm(rule, scope=scope)
    params, good = nest(parameters(NESTED)), [nest(tree) for tree in mild(NESTED, 60)]

    def freeze(tree: Any) -> Any:
        return {**tree, "scale": jnp.zeros(())}

    update = jax.jit(tx.update)
    start = tx.init(params)
    wanted, _ = run(update, start, good, params)
    found, states = run(update, start, [*map(freeze, good[:50]), *good[50:]], params)
    assert_same([freeze(one) for one in found[:50]], [freeze(one) for one in wanted[:50]])
    # What thawed is as at its first step, or less clipped where a threshold grows with time.
    thawed = [abs(float(update["scale"])) for update in found[50:]]
    afresh, _ = run(update, start, good[50:], params)
    assert (np.array(thawed) >= [abs(float(one["scale"])) * (1 - 1e-6) for one in afresh]).all()
    assert_all_finite(states[-1])


def test_a_delayed_factor_is_never_that_of_a_zero() -> None:
    for rule in (clipax.norms.normalize(0.0), clipax.norms.normalize(1e-6), clipax.norms.clip(2.0)):
        tx = clipax.scale_by_norm(clipax.norms.delay(rule, 2, initial=1.0))
        good = [jnp.array([size]) for size in (1.0, 4.0, 8.0, 2.0, 1.0)]
        wanted, _ = run(tx.update, tx.init(jnp.ones(1)), good, None)
        zero = jnp.zeros(1)
        mixed = [zero, good[0], zero, zero, *good[1:3], zero, *good[3:]]
        found, _ = run(tx.update, tx.init(jnp.ones(1)), mixed, None)
        kept = [update for update, given in zip(found, mixed, strict=True) if given[0] > 0]
        np.testing.assert_array_equal(kept, wanted)
