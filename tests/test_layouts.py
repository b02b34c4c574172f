"""The table of layouts: a norm for each output of the layers of Flax."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from clipax import scopes
from clipax.scopes import name_leaves

HEADS = scopes.unit((-2, -1), where=("query/kernel", "key/kernel", "value/kernel"))
TABLES = scopes.unit(0, where="embedding", otherwise=HEADS)


def count_norms(params: Any, scope: Any) -> dict[str, int]:
    """How many norms each leaf has."""
    scope = scopes.resolve(scope)
    scopes.refuse_unmatched(scope, params)
    leaves = jax.tree.leaves(params)
    return {
        name: math.prod(leaf.shape[axis] for axis in scope.block(name, leaf.ndim).keep)
        for name, leaf in zip(name_leaves(params), leaves, strict=True)
    }


RNGS = nnx.Rngs(0)
NNX = {
    "dense": (lambda: nnx.Linear(3, 5, rngs=RNGS), "unit", {"kernel": 5, "bias": 1}),
    "conv": (lambda: nnx.Conv(4, 6, (3, 3), rngs=RNGS), "unit", {"kernel": 6, "bias": 1}),
    "grouped": (
        lambda: nnx.Conv(4, 8, (3, 3), feature_group_count=4, rngs=RNGS),
        "unit",
        {"kernel": 8, "bias": 1},
    ),
    "embedding": (
        lambda: nnx.Embed(7, 3, rngs=RNGS),
        scopes.unit(0, where="embedding"),
        {"embedding": 7},
    ),
    "lora": (lambda: nnx.LoRA(3, 2, 5, rngs=RNGS), "unit", {"lora_a": 2, "lora_b": 5}),
}


@pytest.mark.parametrize("layer", NNX)
def test_nnx(layer: str) -> None:
    make, scope, expected = NNX[layer]
    assert count_norms(nnx.state(make(), nnx.Param), scope) == expected


@pytest.mark.parametrize("framework", ["linen", "nnx"])
def test_attention(framework: str) -> None:
    if framework == "nnx":
        layer = nnx.MultiHeadAttention(2, in_features=8, qkv_features=6, decode=False, rngs=RNGS)
        params: Any = nnx.state(layer, nnx.Param)
    else:
        linen = nn.MultiHeadAttention(2, qkv_features=6)
        params = linen.init(jax.random.key(0), jnp.ones((1, 3, 8)))["params"]
    counts = count_norms(params, HEADS)
    assert {counts[f"{name}/kernel"] for name in ("query", "key", "value")} == {6}
    assert counts["out/kernel"] == 8


def test_a_transformer_of_scanned_layers() -> None:
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x: Any, _: Any) -> Any:
            return nn.MultiHeadAttention(2)(x) + nn.Dense(8)(x), None

    class Model(nn.Module):
        @nn.compact
        def __call__(self, words: Any) -> Any:
            x = nn.Embed(11, 8)(words)
            stack = nn.scan(
                Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
            )
            return stack(name="layers")(x, None)[0]

    params = Model().init(jax.random.key(0), jnp.zeros((1, 4), int))
    counts = count_norms(params, scopes.stacked(0, where="layers", within=TABLES))
    by_end = {name.partition("layers/")[2] or name: count for name, count in counts.items()}
    assert by_end["params/Embed_0/embedding"] == 11
    assert by_end["Dense_0/kernel"] == 3 * 8
    assert by_end["MultiHeadAttention_0/query/kernel"] == 3 * 8
    assert by_end["MultiHeadAttention_0/out/kernel"] == 3 * 8
    assert by_end["Dense_0/bias"] == 3


def test_a_pair_of_lora_starts_with_a_zero() -> None:
    params = nnx.state(NNX["lora"][0](), nnx.Param)
    assert float(jnp.max(jnp.abs(params["lora_b"][...]))) == 0
