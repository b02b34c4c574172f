"""A training step can be exported: states go through `jax.export` under their public names."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.export
import optax
import pytest

from tests.contract.cases import BASIC
from tests.contract.harness import assert_same, jitted, method, problem, run


@functools.cache
def _register(kind: type) -> None:
    jax.export.register_namedtuple_serialization(kind, serialized_name=f"optax.{kind.__name__}")


def _register_those_of_optax(node: Any) -> None:
    """Register optax's states, each by its public name, as a user does."""
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        kind = type(node)
        if kind.__module__.startswith("optax"):
            assert getattr(optax, kind.__name__) is kind
            _register(kind)
    for child in jax.tree.leaves(node, is_leaf=lambda inner: inner is not node):
        if child is not node and not isinstance(child, jax.Array):
            _register_those_of_optax(child)


@pytest.mark.parametrize("name", BASIC)
def test_a_state_is_exported(name: str) -> None:
    params, _ = problem()
    state = method(name).init(params)
    _register_those_of_optax(state)
    stored = jax.export.export(jax.jit(lambda state: state))(state).serialize()
    restored = jax.export.deserialize(stored).call(state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert_same(restored, state)


def test_an_exported_step_goes_on_from_a_state() -> None:
    params, gradients = problem()
    name = "clip_by_zscore"
    start = method(name).init(params)
    _register_those_of_optax(start)
    stored = jax.export.export(jitted(name))(gradients[0], start, params).serialize()
    exported = jax.export.deserialize(stored)
    expected = run(jitted(name), start, gradients, params)
    assert_same(run(exported.call, start, gradients, params), expected)
