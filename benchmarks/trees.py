"""Trees of parameters to measure on, and gradients for them."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["SHAPES", "gradients", "parameters", "with_zero_leaves"]

Shapes = dict[str, Any]


def _leaf(scale: float) -> Shapes:
    """One leaf of 32M entries."""
    return {"kernel": (max(1, round(scale * 32 * 1024 * 1024)),)}


def _transformer(scale: float, layers: int = 12) -> Shapes:
    """A decoder of 12 layers: 148 leaves, 30M entries; `scale` changes widths, not the leaves."""
    side = math.sqrt(scale)
    width = max(4, round(side * 384))
    vocabulary, positions = max(8, round(side * 21_504)), max(8, round(side * 1_024))
    norm = {"scale": (width,), "bias": (width,)}

    def dense(wide: int, out: int) -> Shapes:
        return {"kernel": (wide, out), "bias": (out,)}

    layer = {
        "attention_norm": norm,
        "qkv": dense(width, 3 * width),
        "out": dense(width, width),
        "mlp_norm": norm,
        "up": dense(width, 4 * width),
        "down": dense(4 * width, width),
    }
    return {
        "tokens": {"embedding": (vocabulary, width)},
        "positions": {"embedding": (positions, width)},
        **{f"layer_{number:02d}": layer for number in range(layers)},
        "final_norm": norm,
    }


def _shallow(scale: float) -> Shapes:
    """The same with 3 layers, 40 leaves, for what must be compiled often."""
    return _transformer(scale, layers=3)


def _many(scale: float) -> Shapes:
    """2,000 leaves of 64 to 1,024 entries; `scale` changes their number."""
    shapes = [(64,), (16, 16), (32, 16), (32, 32)]
    return {f"leaf_{i:04d}": shapes[i % 4] for i in range(max(1, round(scale * 2_000)))}


SHAPES = {"leaf": _leaf, "transformer": _transformer, "shallow": _shallow, "many": _many}


def parameters(name: str, dtype: Any, *, scale: float = 1.0, seed: int = 0) -> Any:
    """Draws a tree of parameters.

    Args:
      name: "leaf", "transformer", "shallow" or "many".
      dtype: The type of all leaves.
      scale: Size relative to the full tree.
      seed: Seed of the normal entries.

    Returns:
      A nested dictionary of arrays on the default device.
    """
    return _draw(SHAPES[name](scale), dtype, np.random.default_rng(seed), 0.1)


def gradients(name: str, dtype: Any, *, scale: float = 1.0, seed: int = 1) -> Any:
    """Draws gradients for the same tree, with a norm above 1 so that a clip at 1 acts."""
    shapes = SHAPES[name](scale)
    entries = sum(math.prod(shape) for shape in jax.tree.leaves(shapes, is_leaf=_is_shape))
    size = max(0.01, 4 / math.sqrt(entries))
    return _draw(shapes, dtype, np.random.default_rng(seed), size)


def with_zero_leaves(tree: Any, *, keep: int = 3) -> Any:
    """The tree with exactly zero leaves: of every `keep` leaves all but one become zero.

    A tree of one leaf becomes zero throughout.
    """
    leaves, structure = jax.tree.flatten(tree)
    kept = [
        leaf if len(leaves) > 1 and place % keep == 0 else jnp.zeros_like(leaf)
        for place, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, kept)


def _is_shape(node: Any) -> bool:
    return isinstance(node, tuple)


def _draw(shapes: Shapes, dtype: Any, generator: np.random.Generator, size: float) -> Any:
    def one(shape: tuple[int, ...]) -> jax.Array:
        return jnp.asarray(generator.standard_normal(shape, dtype=np.float32) * size, dtype)

    return jax.tree.map(one, shapes, is_leaf=_is_shape)
