"""Equinox: filtered trees, and whole models with functions among their leaves as `params`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from tests.clients.data import regression
from tests.clients.suite import Loop, Optimizer, Suite

INPUTS, TARGETS = regression()


def loss(model: eqx.nn.MLP) -> jax.Array:
    """Mean squared error."""
    return jnp.mean((jax.vmap(model)(INPUTS)[:, 0] - TARGETS) ** 2)


def build() -> eqx.nn.MLP:
    """Make the model, the same at every call."""
    return eqx.nn.MLP(4, 1, 16, 1, activation=jax.nn.tanh, key=jax.random.key(0))


def make(
    optimizer: Optimizer,
    *,
    whole: bool,
    build: Callable[[], eqx.nn.MLP] = build,
    loss: Callable[[eqx.nn.MLP], jax.Array] = loss,
) -> Loop:
    """Equinox's loop; `params` are the arrays of the model or all of it, as both are written."""

    def begin() -> Any:
        model = build()
        return model, optimizer.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model: eqx.nn.MLP, state: Any) -> Any:
        value, gradient = eqx.filter_value_and_grad(loss)(model)
        params = model if whole else eqx.filter(model, eqx.is_inexact_array)
        updates, state = optimizer.update(gradient, state, params)
        return (eqx.apply_updates(model, updates), state), value

    return Loop(
        begin,
        lambda kept, _: step(*kept),
        lambda kept: eqx.filter(kept[0], eqx.is_array),
        lambda kept: kept[1],
        store,
        restore,
    )


def store(kept: Any, folder: Path) -> None:
    """Write the leaves of the model and of the state to one file."""
    eqx.tree_serialise_leaves(folder / "kept.eqx", kept)


def restore(folder: Path, like: Any) -> Any:
    """Read them into a new model and a new state."""
    return eqx.tree_deserialise_leaves(folder / "kept.eqx", like)


class TestFiltered(Suite):
    @staticmethod
    def make(optimizer: Optimizer) -> Loop:
        return make(optimizer, whole=False)


class TestWholeModel(Suite):
    @staticmethod
    def make(optimizer: Optimizer) -> Loop:
        return make(optimizer, whole=True)
