"""The table of layouts: a norm for each output of the layers of Equinox, Haiku and Keras."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import keras
import pytest

from clipax import scopes
from tests.test_layouts import HEADS, count_norms

KEY = jax.random.key(0)
OF_EQUINOX = scopes.unit(0, where="weight", otherwise="leaf")
EQUINOX = {
    "linear": (lambda: eqx.nn.Linear(3, 5, key=KEY), {"weight": 5, "bias": 1}),
    "conv": (lambda: eqx.nn.Conv2d(4, 6, 3, key=KEY), {"weight": 6, "bias": 1}),
    "grouped": (lambda: eqx.nn.Conv2d(4, 8, 3, groups=4, key=KEY), {"weight": 8, "bias": 1}),
    "transposed": (lambda: eqx.nn.ConvTranspose2d(4, 6, 3, key=KEY), {"weight": 6, "bias": 1}),
    "embedding": (lambda: eqx.nn.Embedding(7, 3, key=KEY), {"weight": 7}),
    "attention": (
        lambda: eqx.nn.MultiheadAttention(2, 6, key=KEY),
        {f"{name}_proj/weight": 6 for name in ("query", "key", "value", "output")},
    ),
}


@pytest.mark.parametrize("layer", EQUINOX)
def test_equinox(layer: str) -> None:
    make, expected = EQUINOX[layer]
    assert count_norms(eqx.filter(make(), eqx.is_inexact_array), OF_EQUINOX) == expected


def test_recurrent_cells_of_equinox() -> None:
    cell = eqx.filter(eqx.nn.LSTMCell(3, 5, key=KEY), eqx.is_inexact_array)
    counts = count_norms(cell, scopes.unit(0, where="weight*", otherwise="leaf"))
    assert counts == {"weight_ih": 20, "weight_hh": 20, "bias": 1}


def _init_haiku(make: Any, *inputs: Any) -> Any:
    return hk.transform(lambda *given: make()(*given)).init(KEY, *inputs)


HAIKU = {
    "linear": (lambda: hk.Linear(5), (jnp.ones((1, 3)),), "unit", {"w": 5, "b": 1}),
    "conv": (lambda: hk.Conv2D(6, 3), (jnp.ones((1, 8, 8, 4)),), "unit", {"w": 6, "b": 1}),
    "embedding": (
        lambda: hk.Embed(7, 3),
        (jnp.zeros(1, int),),
        scopes.unit(0, where="embeddings"),
        {"embeddings": 7},
    ),
}


@pytest.mark.parametrize("layer", HAIKU)
def test_haiku(layer: str) -> None:
    make, inputs, scope, expected = HAIKU[layer]
    counts = count_norms(_init_haiku(make, *inputs), scope)
    assert {name.rpartition("/")[2]: count for name, count in counts.items()} == expected


def test_attention_of_haiku() -> None:
    def make() -> Any:
        attention = hk.MultiHeadAttention(2, 3, w_init=hk.initializers.RandomNormal())
        return lambda x: attention(x, x, x)

    counts = count_norms(_init_haiku(make, jnp.ones((4, 6))), "unit")
    kernels = {name: count for name, count in counts.items() if name.endswith("/w")}
    assert set(kernels.values()) == {6}
    assert len(kernels) == 4


def _variables(layer: Any, *shapes: tuple[int, ...]) -> dict[str, Any]:
    layer.build(*shapes)
    return {variable.path: variable.value for variable in layer.trainable_variables}


KERAS = {
    "dense": (lambda: keras.layers.Dense(5), ((1, 3),), "unit", {"kernel": 5, "bias": 1}),
    "conv": (lambda: keras.layers.Conv2D(6, 3), ((1, 8, 8, 4),), "unit", {"kernel": 6, "bias": 1}),
    "grouped": (
        lambda: keras.layers.Conv2D(8, 3, groups=4),
        ((1, 8, 8, 4),),
        "unit",
        {"kernel": 8, "bias": 1},
    ),
    "depthwise": (
        lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=2),
        ((1, 8, 8, 4),),
        scopes.unit((-2, -1), where="kernel"),
        {"kernel": 8, "bias": 1},
    ),
    "transposed": (
        lambda: keras.layers.Conv2DTranspose(6, 3),
        ((1, 8, 8, 4),),
        scopes.unit(-2, where="kernel"),
        {"kernel": 6, "bias": 1},
    ),
    "embedding": (
        lambda: keras.layers.Embedding(7, 3),
        ((1, 4),),
        scopes.unit(0, where="embeddings"),
        {"embeddings": 7},
    ),
}


@pytest.mark.parametrize("layer", KERAS)
def test_keras(layer: str) -> None:
    make, shapes, scope, expected = KERAS[layer]
    counts = count_norms(_variables(make(), *shapes), scope)
    assert {name.rpartition("/")[2]: count for name, count in counts.items()} == expected


def test_attention_of_keras() -> None:
    layer = keras.layers.MultiHeadAttention(2, 3)
    shapes = ((1, 4, 8), (1, 4, 8))
    counts = count_norms(_variables(layer, *shapes), HEADS)
    kernels = {
        name.split("/")[-2]: count for name, count in counts.items() if name.endswith("kernel")
    }
    assert {kernels[name] for name in ("query", "key", "value")} == {6}
    assert kernels["attention_output"] == 8
