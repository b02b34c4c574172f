"""Flax linen: scanned layers, `TrainState`, Orbax's `CheckpointManager`, and Flax's own bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
from flax.training.train_state import TrainState

import clipax
from tests.clients.data import regression
from tests.clients.suite import Loop, Optimizer, Suite, assert_same

INPUTS, TARGETS = regression()


class Layer(nn.Module):
    """A residual layer, as `nn.scan` takes it."""

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return x + nn.tanh(nn.Dense(8)(x)), None


class Network(nn.Module):
    """Three layers in one leaf each: their axis comes first."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        layers = nn.scan(
            Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )()
        return nn.Dense(1)(layers(nn.Dense(8)(x), None)[0])[:, 0]


def make(optimizer: Optimizer) -> Loop:
    """`TrainState.apply_gradients`."""
    network = Network()

    @jax.jit
    def begin() -> TrainState:
        params = network.init(jax.random.key(0), INPUTS)["params"]
        return TrainState.create(apply_fn=network.apply, params=params, tx=optimizer)

    @jax.jit
    def step(kept: TrainState) -> tuple[TrainState, jax.Array]:
        def loss(params: Any) -> jax.Array:
            return jnp.mean((kept.apply_fn({"params": params}, INPUTS) - TARGETS) ** 2)

        value, gradient = jax.value_and_grad(loss)(kept.params)
        return kept.apply_gradients(grads=gradient), value

    return Loop(
        begin,
        lambda kept, _: step(kept),
        lambda kept: kept.params,
        lambda kept: kept.opt_state,
        store,
        restore,
    )


def store(kept: Any, folder: Path) -> None:
    """Save with the manager that Flax's guides name."""
    with orbax.checkpoint.CheckpointManager(folder) as manager:
        manager.save(4, args=orbax.checkpoint.args.StandardSave(kept))


def restore(folder: Path, like: Any) -> Any:
    """Restore the latest, with shapes as the target."""
    target = jax.eval_shape(lambda: like)
    with orbax.checkpoint.CheckpointManager(folder) as manager:
        arguments = orbax.checkpoint.args.StandardRestore(target)
        return manager.restore(manager.latest_step(), args=arguments)


class TestLinen(Suite):
    make = staticmethod(make)

    def test_bytes(self) -> None:
        kept, begin = self.whole("zscore").last, self.loop("zscore").begin()
        restored = flax.serialization.from_bytes(begin, flax.serialization.to_bytes(kept))
        assert_same(restored.opt_state, kept.opt_state)
        assert_same(restored.params, kept.params)


def test_a_norm_for_each_scanned_layer() -> None:
    """`scopes.stacked` sees three layers in one leaf, and gives each a norm of its own."""
    clip = clipax.scale_by_norm(
        clipax.norms.clip(0.1), scope=clipax.scopes.stacked(0, where="Scan*")
    )
    loop = make(optax.chain(clip, optax.sgd(0.1)))
    before = loop.begin()
    after, _ = loop.advance(before, 0)
    moved = jax.tree.map(lambda a, b: (a - b) / 0.1, before.params, after.params)
    (kernel,) = (leaf for leaf in jax.tree.leaves(moved["ScanLayer_0"]) if leaf.ndim == 3)
    norms = jnp.sqrt(jnp.sum(kernel**2, axis=(1, 2)))
    assert norms.shape == (3,)
    np.testing.assert_allclose(norms, 0.1, rtol=1e-4)
