"""A run that is stored half-way and read back goes on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import orbax.checkpoint
import pytest

from tests.contract.cases import BASIC, REPRESENTATIVES
from tests.contract.harness import assert_same, jitted, method, problem, run, signature
from tests.thorough import thorough


def _first_half(name: str, problem: tuple[Any, Any]) -> tuple[Any, Any]:
    """A new state, and the state after two steps."""
    params, gradients = problem
    start = method(name).init(params)
    _, states = run(jitted(name), start, gradients[:2], params)
    return start, states[-1]


def _second_half(name: str, problem: tuple[Any, Any], state: Any) -> Any:
    """The updates and states that follow."""
    params, gradients = problem
    return run(jitted(name), state, gradients[2:], params)


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_flax_bytes(name: str) -> None:
    start, middle = _first_half(name, problem())
    restored = flax.serialization.from_bytes(start, flax.serialization.to_bytes(middle))
    restored = jax.tree.map(jnp.asarray, restored)
    assert signature(restored) == signature(middle)
    expected = _second_half(name, problem(), middle)
    assert_same(_second_half(name, problem(), restored), expected)


@pytest.mark.parametrize(
    "name", thorough(sorted(BASIC.keys() | set(REPRESENTATIVES)), REPRESENTATIVES)
)
def test_flax_state_dict(name: str) -> None:
    start, middle = _first_half(name, problem())
    stored = flax.serialization.to_state_dict(middle)
    restored = flax.serialization.from_state_dict(start, stored)
    assert_same(restored, middle)


def test_orbax(tmp_path: Path) -> None:
    # All in one checkpoint, as writing files costs most. Without the leaf of size zero, of which
    # Orbax will not write a momentum.
    params, gradients = jax.tree.map(lambda leaf: leaf if leaf.size else None, problem())
    halves = {name: _first_half(name, (params, gradients)) for name in REPRESENTATIVES}
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", {name: half[1] for name, half in halves.items()})
        checkpointer.wait_until_finished()
        like = jax.eval_shape(lambda: {name: half[0] for name, half in halves.items()})
        restored = checkpointer.restore(tmp_path / "state", like)
    for name, (_, middle) in halves.items():
        assert signature(restored[name]) == signature(middle)
        expected = _second_half(name, (params, gradients), middle)
        assert_same(_second_half(name, (params, gradients), restored[name]), expected)
