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
    "by_label",
    "inner",
    "largest",
    "parts",
    "reduced",
    "rescaling",
    "root",
    "square_sums",
    "stacked",
    "total",
]

_SMALL = 2**14
"""Entries up to which a temporary is cheaper than a loop of pairs.

A branch costs time even where it is not taken: for 150 leaves a third of a millisecond with loops
of pairs, a third of that with plain sums.
"""


def by_label(partial_sums: Sequence[Array], layout: Layout, *, greatest: bool = False) -> Norms:
    """What the pieces were reduced to, summed up by label over all shards (or the greatest)."""
    found: dict[str, list[Array]] = {}
    for part, block, shared in zip(partial_sums, layout.blocks, layout.copies, strict=True):
        # A shard that several devices hold counts once.
        own = part if shared == 1 or greatest else part / shared
        found.setdefault(block.label, []).append(own)
    if greatest:
        return layout.mesh.pmax({label: largest(row) for label, row in found.items()})
    return layout.mesh.psum({label: total(row) for label, row in found.items()})


def reduced(
    reduce: Callable[[Array, tuple[int, ...]], Array], values: Sequence[Array], layout: Layout
) -> list[Array]:
    """`reduce(value, axes)` of each piece, with the axes over which its block is measured."""
    pairs = zip(values, layout.blocks, strict=True)
    return [reduce(value, reduced_axes(value.ndim, block)) for value, block in pairs]


def square_sums(
    values: Sequence[Array], layout: Layout, dtype: Any, *, rescaled: bool = False
) -> Norms:
    """Sums of squares of the pieces, or of the pieces times `rescaling`."""
    # Behind a barrier the scale is no constant: XLA would square it by itself, to zero, and the
    # entries by themselves, to infinity.
    scale = lax.optimization_barrier(jnp.asarray(rescaling(dtype), dtype)) if rescaled else None
    found: list[Array] = []
    for value, whole, block in zip(values, layout.whole, layout.blocks, strict=True):
        in_pairs = rescaled and whole and value.size > _SMALL
        add = _sum_in_pairs if in_pairs else jnp.sum
        squares = inner(value, value, dtype, scale)
        found.append(add(squares, reduced_axes(value.ndim, block)))
    return by_label(found, layout)


def rescaling(dtype: Any) -> float:
    """Squaring halves the range of exponents; this scale gives the upper half back."""
    return 2.0 ** -(jnp.finfo(dtype).maxexp // 2)


def inner(one: Array, other: Array, dtype: Any, scale: Array | None = None) -> Array:
    """Products of entries, each times `scale`; of complex ones the real part, one conjugated."""

    def widened(value: Array) -> list[Array]:
        wide = [part.astype(dtype) for part in parts(value)]
        return wide if scale is None else [part * scale for part in wide]

    left = widened(one)
    right = left if other is one else widened(other)
    first, *rest = [a * b for a, b in zip(left, right, strict=True)]
    return sum(rest, start=first)


def parts(value: Array) -> tuple[Array, ...]:
    """The value, or real and imaginary part."""
    return (value.real, value.imag) if jnp.iscomplexobj(value) else (value,)


def largest(values: Sequence[Array]) -> Array:
    """The largest of arrays of one shape, entry by entry."""
    return values[0] if len(values) == 1 else jnp.max(jnp.stack(values), axis=0)


def total(values: Sequence[Array]) -> Array:
    """Adds arrays of one shape: a chain of additions would compile in quadratic time."""
    return values[0] if len(values) == 1 else jnp.sum(stacked(values), axis=0)


def stacked(values: Sequence[Array]) -> Array:
    """Arrays of one shape as one; opaque, or XLA turns a sum over it back into a chain."""
    return lax.optimization_barrier(jnp.stack(values))


def root(square: Array) -> Array:
    """The square root, with derivative 0 at 0."""
    zero = square == 0
    return jnp.where(zero, jnp.zeros_like(square), jnp.sqrt(jnp.where(zero, 1, square)))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _sum_in_pairs(terms: Array, axes: tuple[int, ...]) -> Array:
    """The sum of non-negative terms, entry by entry, with what rounding loses summed up beside it.

    Where terms have a factor that is no constant, XLA for CPU writes an array of that factor for a
    plain sum. This one is slower, but a loop without a temporary.
    """
    zero = jnp.zeros((), terms.dtype)
    rounded, lost = lax.reduce((terms, jnp.zeros_like(terms)), (zero, zero), _add_pairs, axes)
    # What infinite terms lose is not a number.
    return jnp.where(jnp.isfinite(rounded), rounded + lost, rounded)


@_sum_in_pairs.defjvp
def _sum_in_pairs_jvp(
    axes: tuple[int, ...], primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    return _sum_in_pairs(primals[0], axes), jnp.sum(tangents[0], axis=axes)


def _add_pairs(one: tuple[Array, Array], two: tuple[Array, Array]) -> tuple[Array, Array]:
    # Exact where the first is the larger, as it is in a loop but for the first few terms.
    both = one[0] + two[0]
    return both, ((one[0] - both) + two[0]) + (one[1] + two[1])
