"""Gradients that are not finite: a zero update for what is bad, and nothing of it is remembered."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from tests.contract.cases import BASIC, CASES, REPRESENTATIVES, SEES_LEAVES
from tests.contract.gradients import NESTED, flatten, heavy_tailed, nest, parameters
from tests.contract.harness import (
    assert_all_finite,
    assert_same,
    jitted,
    memory,
    method,
    problem,
    run,
)
from tests.oracles import Tree
from tests.thorough import thorough

ALL = pytest.mark.parametrize("name", CASES)
BAD = [np.nan, np.inf, -np.inf]
LEAF = "dense/kernel"


def _spoiled(gradient: Any, value: float) -> Any:
    kernel = gradient["dense"]["kernel"].at[1, 2].set(value)
    return {**gradient, "dense": {**gradient["dense"], "kernel": kernel}}


@ALL
def test_bad_steps_against_the_oracle(name: str) -> None:
    params = nest(parameters(NESTED))
    gradients = [nest(gradient) for gradient in heavy_tailed(NESTED, 24)]
    for step, value in zip((0, 5, 6, 13, 20), [*BAD, np.nan, np.inf], strict=True):
        gradients[step] = _spoiled(gradients[step], value)
    updates, states = run(jitted(name), method(name).init(params), gradients, params)
    expected = CASES[name].reference([flatten(gradient) for gradient in gradients], flatten(params))
    for update, reference in zip(updates, expected, strict=True):
        _assert_near(flatten(update), reference)
    assert_all_finite(states)


# Remembers entries one by one, without those that are not finite: time goes on for the others.
BY_ENTRY = "delay_updates"
# Guard their blocks one by one.
BY_LEAF = {
    "clip_by_block_rms",
    "clip_by_group_norm",
    "clip_by_leaf_norm",
    "stable_adamw",
    "stable_spam",
}
GUARDED = [name for name, case in CASES.items() if case.entry.name != BY_ENTRY]


def _all_bad(name: str, value: float) -> Any:
    bad = jax.tree.map(lambda leaf: jnp.full_like(leaf, value), problem()[0])
    # A leaf without entries has no bad ones.
    return {**bad, "empty": None} if CASES[name].entry.name in BY_LEAF else bad


# Norms of infinities are infinite, like that of a NaN not finite: one of them for the options.
SPOILED = [
    *((name, np.nan) for name in GUARDED),
    *((name, value) for name in GUARDED if name in BASIC for value in BAD[1:]),
]


@pytest.mark.parametrize(("name", "value"), SPOILED)
def test_memory_is_that_of_the_run_without_the_step(name: str, value: float) -> None:
    params, gradients = problem()
    # The block that is bad must remember nothing; others go on, so here all of them are bad.
    bad = _all_bad(name, value)
    _, states = run(jitted(name), method(name).init(params), [gradients[0], bad], params)
    assert_same(memory(states[1]), memory(states[0]))


@pytest.mark.parametrize("value", BAD)
def test_blocks_are_guarded_one_by_one(value: float) -> None:
    tx = clipax.scale_by_norm(clipax.norms.adagrad_norm(1.0), b1=0.9, scope="leaf")
    params, (first, second, *_) = problem()
    update = jax.jit(tx.update)
    updates, (before, after) = run(
        update, tx.init(params), [first, _spoiled(second, value)], params
    )
    unspoiled, (_, wanted) = run(update, tx.init(params), [first, second], params)
    expected = flatten(unspoiled[1]) | {LEAF: np.zeros((3, 4))}
    for path, leaf in flatten(updates[1]).items():
        np.testing.assert_array_equal(leaf, expected[path], err_msg=path)
    old, new, other = (flatten(state.memory) for state in (before, after, wanted))
    for path, leaf in new.items():
        np.testing.assert_array_equal(
            leaf, (old if path.endswith(LEAF) else other)[path], err_msg=path
        )
    bad = np.array([name == LEAF for name in clipax.block_names(after)])
    rows = {
        field: [getattr(state.telemetry, field) for state in (before, wanted, after)]
        for field in ("grad_norm", "threshold", "clip_factor", "clipped_count")
    }
    rows["before"] = [state.rules.before.rows for state in (before, wanted, after)]
    for field, (kept, taken, found) in rows.items():
        row = np.where(bad, np.asarray(kept), np.asarray(taken))
        np.testing.assert_array_equal(found, row, err_msg=field)
    np.testing.assert_array_equal(after.telemetry.nonfinite_count, bad)
    np.testing.assert_array_equal(after.telemetry.is_finite, ~bad)


POLICY = [
    name
    for name, case in BASIC.items()
    # Thresholds and norms are guarded by the transformation that uses them.
    if (name in REPRESENTATIVES and case.entry.kind in ("threshold", "norm"))
    or "nonfinite" in inspect.signature(case.factory).parameters
]


@pytest.mark.parametrize("name", thorough(POLICY, REPRESENTATIVES))
def test_propagate_gives_nan_and_a_clean_memory(name: str) -> None:
    params, gradients = problem()
    tx = CASES[name].make(nonfinite="propagate")
    update = jax.jit(tx.update)
    bad = _all_bad(name, jnp.nan)
    updates, states = run(update, tx.init(params), [gradients[0], bad, gradients[2]], params)
    assert all(np.isnan(leaf).all() for leaf in flatten(updates[1]).values())
    assert_all_finite((updates[0], updates[2], states))
    if name != BY_ENTRY:
        assert_same(memory(states[1]), memory(states[0]))


# The largest and the smallest of the dtype, and what is not finite, with ordinary steps between.
EXTREMES = {
    jnp.float32: [1e38, np.nan, 1e-38, np.inf, 3e38, -np.inf, 1.0, -1e38, 1e-45, 0.0, 1.0],
    jnp.float16: [6e4, np.nan, 6e-8, np.inf, 1.0, -np.inf, 1e-5, 0.0, 1.0, 1.0, -6.5e4, 1.0],
}


def _assert_state_stays_finite(name: str, dtype: Any) -> None:
    params = nest(parameters(NESTED), dtype)
    gradients = [
        jax.tree.map(lambda leaf, value=value: jnp.full_like(leaf, value), params)
        for value in EXTREMES[dtype]
    ]
    _, states = run(jitted(name), method(name).init(params), gradients, params)
    assert_all_finite(states)


@ALL
def test_no_state_is_ever_anything_but_finite_in_float32(name: str) -> None:
    _assert_state_stays_finite(name, jnp.float32)


@pytest.mark.parametrize("name", thorough(SEES_LEAVES, REPRESENTATIVES))
def test_no_state_is_ever_anything_but_finite_in_float16(name: str) -> None:
    _assert_state_stays_finite(name, jnp.float16)


def _assert_near(actual: Tree, expected: Tree) -> None:
    # Of what is finite: a transformation that only watches passes on the rest.
    size = max(
        float(np.abs(leaf).max(initial=0.0, where=np.isfinite(leaf))) for leaf in expected.values()
    )
    for path, leaf in expected.items():
        np.testing.assert_allclose(actual[path], leaf, rtol=1e-5, atol=1e-5 * size, err_msg=path)
