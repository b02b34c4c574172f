"""Trees of parameters to measure on, and gradients for them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Shapes = dict[str, Any]


def _transformer(scale: float, layers: int = 12) -> Shapes:
    """A decoder of 12 layers: 148 leaves, 30M entries; `scale` changes widths, not the leaves."""
    side = math.sqrt(scale)
    width = max(4, round(side * 384))
    vocabulary, positions = max(8, round(side * 21_504)), max(8, round(side * 1_024))
    norm = {"scale": (width,), "bias": (width,)}

    def dense(wide: int, out: int) -> Shapes:
        return {"kernel": (wide, out), "bias": (out,)}

    layer = {"attention_norm": norm, "qkv": dense(width, 3 * width), "out": dense(width, width)}
    layer |= {"mlp_norm": norm, "up": dense(width, 4 * width), "down": dense(4 * width, width)}
    return {
        "tokens": {"embedding": (vocabulary, width)},
        "positions": {"embedding": (positions, width)},
        **{f"layer_{number:02d}": layer for number in range(layers)},
        "final_norm": norm,
    }


def _many(scale: float) -> Shapes:
    """2,000 leaves of 64 to 1,024 entries; `scale` changes their number."""
    shapes = [(64,), (16, 16), (32, 16), (32, 32)]
    return {f"leaf_{i:04d}": shapes[i % 4] for i in range(max(1, round(scale * 2_000)))}


def decoder(
    layers: int,
    width: int,
    hidden: int,
    keys: int,
    *,
    words: int = 32_000,
    stacked: bool = False,
) -> Shapes:
    """A decoder with gated dense layers; `keys` is the width of keys and values.

    Of many leaves, or of a few in which all layers are stacked.
    """
    layer = {
        "attention_norm": (width,),
        "query": (width, width),
        "key": (width, keys),
        "value": (width, keys),
        "out": (width, width),
        "mlp_norm": (width,),
        "gate": (width, hidden),
        "up": (width, hidden),
        "down": (hidden, width),
    }
    if stacked:
        blocks: Shapes = {"layers": {name: (layers, *shape) for name, shape in layer.items()}}
    else:
        blocks = {f"layer_{number:02d}": layer for number in range(layers)}
    return {"tokens": (words, width), **blocks, "norm": (width,), "head": (width, words)}


SHAPES: dict[str, Callable[[float], Shapes]] = {
    # One leaf of 2^25 entries.
    "leaf": lambda scale: {"kernel": (max(1, round(scale * 2**25)),)},
    # The same as a matrix, of as many units as columns.
    "matrix": lambda scale: {"kernel": (4096, max(1, round(scale * 2**13)))},
    "transformer": _transformer,
    # 64 leaves, 70M entries: layers of GPT-2's width.
    "layers": lambda scale: _transformer(4 * scale, layers=5),
    # 40 leaves, for what must be compiled often.
    "shallow": partial(_transformer, layers=3),
    "many": _many,
}


def check_name(text: str) -> str:
    """Returns the name of a tree in one spelling: one of `SHAPES`, or a size such as "1e6x150".

    Raises:
      ValueError: It names no tree.
    """
    if text in SHAPES:
        return text
    if not re.fullmatch(r"\d+(\.\d+)?(e\d+)?x\d+", text):
        raise ValueError(f"must be one of {', '.join(SHAPES)} or like 1e6x150, got {text!r}")
    entries, leaves = (int(float(part)) for part in text.split("x"))
    if not 1 <= leaves <= entries / 8 and leaves != 1:
        raise ValueError(f"needs 8 entries a leaf at least, got {text!r}")
    return f"{Decimal(entries).normalize():e}x{leaves}".replace("e+", "e")


def shapes(name: str, scale: float = 1.0) -> Shapes:
    """Shapes of a tree's leaves; `scale` is for the named ones.

    One of so many entries in so many leaves has leaves of four sizes in turn, matrices of 8 columns
    where there is more than one.
    """
    if name in SHAPES:
        return SHAPES[name](scale)
    entries, leaves = measure_size(name)
    if leaves == 1:
        return {"leaf": (entries,)}
    rows = entries / leaves / 8
    sizes = (0.4, 0.8, 1.2, 1.6)
    return {f"leaf_{i:04d}": (max(1, round(rows * sizes[i % 4])), 8) for i in range(leaves)}


def measure_size(name: str, scale: float = 1.0) -> tuple[int, int]:
    """Counts entries and leaves of a tree; those of its name where that says how many."""
    if name not in SHAPES:
        entries, leaves = (int(float(part)) for part in name.split("x"))
        return entries, leaves
    found = jax.tree.leaves(shapes(name, scale), is_leaf=lambda node: isinstance(node, tuple))
    return sum(math.prod(shape) for shape in found), len(found)


def write_size(name: str) -> str:
    """Says of how many arrays and entries a tree is, as in "64 arrays, 70M"."""
    entries, leaves = measure_size(name)
    if leaves > 1:
        arrays = f"{leaves:,} arrays"
    else:
        (shape,) = shapes(name).values()
        arrays = "one array" if len(shape) == 1 else f"one array of {' x '.join(map(str, shape))}"
    millions = entries / 1e6
    return f"{arrays}, {millions:,.0f}M" if millions >= 1 else f"{arrays}, {millions:.2g}M"


def parameters(name: str, dtype: Any, *, scale: float = 1.0, seed: int = 0) -> Any:
    """Draws a tree of parameters, a nested dictionary of normal entries on the default device."""
    return _draw(shapes(name, scale), dtype, np.random.default_rng(seed), 0.1)


def gradients(name: str, dtype: Any, *, scale: float = 1.0, seed: int = 1) -> Any:
    """Draws gradients for the same tree, with a norm above 1 so that a clip at 1 acts."""
    size = max(0.01, 4 / math.sqrt(measure_size(name, scale)[0]))
    return _draw(shapes(name, scale), dtype, np.random.default_rng(seed), size)


def with_zero_leaves(tree: Any, *, keep: int = 3) -> Any:
    """Zeroes all but one of every `keep` leaves; a tree of one leaf throughout."""
    leaves, structure = jax.tree.flatten(tree)
    for place, leaf in enumerate(leaves):
        if place % keep or len(leaves) == 1:
            leaves[place] = jnp.zeros_like(leaf)
    return jax.tree.unflatten(structure, leaves)


def _draw(shapes: Shapes, dtype: Any, generator: np.random.Generator, size: float) -> Any:
    def one(shape: tuple[int, ...]) -> jax.Array:
        # Repeated beyond a million: a billion normal numbers take longer than all measurements.
        entries = min(math.prod(shape), 2**20)
        base = generator.standard_normal(entries, dtype=np.float32) * size
        return jnp.asarray(np.resize(base, shape), dtype)

    return jax.tree.map(one, shapes, is_leaf=lambda node: isinstance(node, tuple))
