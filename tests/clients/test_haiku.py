"""Haiku: nested dictionaries with names such as `mlp/~/linear_0`, stored by pickle."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import optax

from tests.clients.data import regression
from tests.clients.suite import Loop, Optimizer, Suite

INPUTS, TARGETS = regression()


def make(optimizer: Optimizer) -> Loop:
    """A network, with parameters and state in a tuple, as in Haiku's examples."""
    network = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([16, 1])(x)))

    def loss(params: Any) -> jax.Array:
        return jnp.mean((network.apply(params, INPUTS)[:, 0] - TARGETS) ** 2)

    def begin() -> Any:
        params = network.init(jax.random.key(0), INPUTS)
        return params, optimizer.init(params)

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    return Loop(
        begin,
        lambda kept, _: step(*kept),
        lambda kept: kept[0],
        lambda kept: kept[1],
        store,
        restore,
    )


def store(kept: Any, folder: Path) -> None:
    """Pickle NumPy's arrays."""
    (folder / "kept.pickle").write_bytes(pickle.dumps(jax.device_get(kept)))


def restore(folder: Path, like: Any) -> Any:
    """Read them back."""
    return pickle.loads((folder / "kept.pickle").read_bytes())


class TestHaiku(Suite):
    make = staticmethod(make)
