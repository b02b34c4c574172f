"""Flax NNX: scanned layers, some of the variables by `wrt`, Orbax's `CheckpointManager`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

import clipax
from tests.clients import test_linen
from tests.clients.data import regression
from tests.clients.suite import Loop, Optimizer, Suite, assert_same

INPUTS, TARGETS = regression()


class Layer(nnx.Module):
    """A residual layer with an adapter of low rank."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.dense = nnx.Linear(8, 8, rngs=rngs)
        self.adapter = nnx.LoRA(8, 2, 8, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + jnp.tanh(self.dense(x) + self.adapter(x))


class Network(nnx.Module):
    """Three layers in one, scanned."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def layers(rngs: nnx.Rngs) -> Layer:
            return Layer(rngs)

        self.first = nnx.Linear(4, 8, rngs=rngs)
        self.layers = layers(rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.last = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def forward(x: jax.Array, layer: Layer) -> jax.Array:
            return layer(x)

        return self.last(self.norm(forward(self.first(x), self.layers)))[:, 0]


def loss(model: Network) -> jax.Array:
    """Mean squared error."""
    return jnp.mean((model(INPUTS) - TARGETS) ** 2)


def make(optimizer: Optimizer, wrt: Any) -> Loop:
    """`nnx.Optimizer.update`, which changes the model in place."""

    def begin() -> Any:
        model = Network(nnx.Rngs(0))
        return model, nnx.Optimizer(model, optimizer, wrt=wrt)

    @nnx.jit
    def step(model: Network, optimizer: nnx.Optimizer) -> jax.Array:
        value, gradient = nnx.value_and_grad(loss, argnums=nnx.DiffState(0, wrt))(model)
        optimizer.update(model, gradient)
        return value

    def advance(kept: Any, index: int) -> Any:
        return kept, step(*kept)

    return Loop(
        begin,
        advance,
        lambda kept: nnx.to_pure_dict(nnx.state(kept[0], wrt)),
        lambda kept: nnx.state(kept[1]),
        store,
        restore,
    )


def store(kept: Any, folder: Path) -> None:
    """Save the states of the model and of the optimizer."""
    test_linen.store({"model": nnx.state(kept[0]), "optimizer": nnx.state(kept[1])}, folder)


def restore(folder: Path, like: Any) -> Any:
    """Put them into a new model and a new optimizer."""
    model, optimizer = like
    new = {"model": nnx.state(model), "optimizer": nnx.state(optimizer)}
    restored = test_linen.restore(folder, new)
    nnx.update(model, restored["model"])
    nnx.update(optimizer, restored["optimizer"])
    return model, optimizer


class TestNnx(Suite):
    @staticmethod
    def make(optimizer: Optimizer) -> Loop:
        return make(optimizer, nnx.Param)

    def test_metrics_of_the_optimizer_itself(self) -> None:
        _, optimizer = self.whole("zscore").last
        assert_same(self.metrics(optimizer), self.metrics(nnx.state(optimizer)))

    def test_metrics_inside_jit(self) -> None:
        _, optimizer = self.whole("zscore").last
        inside = nnx.jit(lambda optimizer: clipax.metrics(optimizer, top=0))(optimizer)
        assert_same(inside, self.metrics(optimizer))


class TestAdapters(Suite):
    """Only the adapters of low rank are trained, and measured."""

    max_norm: ClassVar[float] = 0.2

    @staticmethod
    def make(optimizer: Optimizer) -> Loop:
        return make(optimizer, nnx.LoRAParam)

    def test_only_adapters_are_measured(self) -> None:
        clip = clipax.clip_by_leaf_norm(0.1)
        kept = make(clip, nnx.LoRAParam).begin()
        names = clipax.block_names(kept[1])
        assert len(names) == 2
        assert all("adapter" in name for name in names)
