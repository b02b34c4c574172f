"""Sums over pieces of a tree, by label: over entries, leaves and shards, in float32 or better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from clipax._typing import Array, Norms
from clipax.measure._gather import Layout
from clipax.measure._leaves import reduced_axes

__all__ = [
    "add_by_label",
    "largest",
    "parts",
    "reduce_each",
    "root",
    "square_sums",
    "squares",
    "stack",
    "total",
]


def add_by_label(partial_sums: Sequence[Array], layout: Layout, *, greatest: bool = False) -> Norms:
    """What the pieces were reduced to, summed up by label over all shards (or the greatest)."""
    rows: dict[str, list[Array]] = {}
    for part, block, shared in zip(partial_sums, layout.blocks, layout.copies, strict=True):
        # A shard that several devices hold counts once.
        own = part if shared == 1 or greatest else part / shared
        rows.setdefault(block.label, []).append(own)
    if greatest:
        return layout.mesh.pmax({label: largest(row) for label, row in rows.items()})
    return layout.mesh.psum({label: total(row) for label, row in rows.items()})


def reduce_each(
    reduce: Callable[[Array, tuple[int, ...]], Array], values: Sequence[Array], layout: Layout
) -> list[Array]:
    """`reduce(value, axes)` of each piece, with the axes over which its block is measured."""
    pairs = zip(values, layout.blocks, strict=True)
    return [reduce(value, reduced_axes(value.ndim, block)) for value, block in pairs]


def square_sums(values: Sequence[Array], layout: Layout, dtype: Any) -> Norms:
    """Sums of squares of the pieces, by label."""

    def reduce(value: Array, axes: tuple[int, ...]) -> Array:
        return jnp.sum(squares(value, dtype), axes)

    return add_by_label(reduce_each(reduce, values, layout), layout)


def squares(value: Array, dtype: Any, scale: Array | None = None) -> Array:
    """Squared magnitudes of entries, each entry times `scale` first."""
    wide = [part.astype(dtype) for part in parts(value)]
    scaled = wide if scale is None else [part * scale for part in wide]
    first, *rest = [part * part for part in scaled]
    return sum(rest, start=first)


def parts(value: Array) -> tuple[Array, ...]:
    """The value, or real and imaginary part."""
    return (value.real, value.imag) if jnp.iscomplexobj(value) else (value,)


def largest(values: Sequence[Array]) -> Array:
    """The largest of arrays of one shape, entry by entry."""
    return values[0] if len(values) == 1 else jnp.max(jnp.stack(values), axis=0)


def total(values: Sequence[Array]) -> Array:
    """Adds arrays of one shape: a chain of additions would compile in quadratic time."""
    return values[0] if len(values) == 1 else jnp.sum(stack(values), axis=0)


def stack(values: Sequence[Array]) -> Array:
    """Arrays of one shape as one; opaque, or XLA turns a sum over it back into a chain."""
    return lax.optimization_barrier(jnp.stack(values))


@partial(jax.jit, inline=True)
def root(square: Array) -> Array:
    """The square root, with derivative 0 at 0."""
    zero = square == 0
    return jnp.where(zero, jnp.zeros_like(square), jnp.sqrt(jnp.where(zero, 1, square)))
