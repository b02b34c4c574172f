"""Sums over pieces of a tree, by label: over entries, leaves and shards, in float32 or better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from clipax._leaves import reduced_axes
from clipax._pieces import Layout
from clipax._typing import Array, Norms

__all__ = [
    "by_label",
    "inner",
    "largest",
    "parts",
    "rescaling",
    "root",
    "square_sums",
    "stacked",
    "total",
]

Reduce = Callable[[Array, tuple[int, ...]], Array]
"""From a piece and the axes over which to reduce it to what is left."""


def by_label(
    values: Sequence[Array], layout: Layout, reduce: Reduce, *, greatest: bool = False
) -> Norms:
    """What each label's pieces are reduced to, summed up over all shards (or the greatest)."""
    found: dict[str, list[Array]] = {}
    for value, block, shared in zip(values, layout.blocks, layout.copies, strict=True):
        part = reduce(value, reduced_axes(value.ndim, block))
        # A shard that several devices hold counts once.
        part = part if shared == 1 or greatest else part / shared
        found.setdefault(block.label, []).append(part)
    if greatest:
        return layout.mesh.pmax({label: largest(row) for label, row in found.items()})
    return layout.mesh.psum({label: total(row) for label, row in found.items()})


def square_sums(
    values: Sequence[Array], layout: Layout, dtype: Any, *, rescaled: bool = False
) -> Norms:
    """Sums of squares of the pieces, or of the pieces times `rescaling`."""
    if not rescaled:
        return by_label(values, layout, lambda value, axes: jnp.sum(_squares(value, dtype), axes))
    # Behind a barrier the scale is no constant: XLA would square it by itself, to zero, and the
    # entries by themselves, to infinity.
    scale = lax.optimization_barrier(jnp.asarray(rescaling(dtype), dtype))
    add = _sum_in_pairs if all(layout.whole) else jnp.sum
    return by_label(values, layout, lambda value, axes: add(_squares(value, dtype, scale), axes))


def rescaling(dtype: Any) -> float:
    """Squaring halves the range of exponents; this scale gives the upper half back."""
    return 2.0 ** -(jnp.finfo(dtype).maxexp // 2)


def inner(one: Array, other: Array, dtype: Any) -> Array:
    """Products of entries; of complex ones the real part, with one of them conjugated."""
    pairs = zip(parts(one), parts(other), strict=True)
    first, *rest = (a.astype(dtype) * b.astype(dtype) for a, b in pairs)
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


def _squares(value: Array, dtype: Any, scale: Array | None = None) -> Array:
    wide = [part.astype(dtype) for part in parts(value)]
    if scale is not None:
        wide = [part * scale for part in wide]
    return sum((jnp.square(part) for part in wide[1:]), start=jnp.square(wide[0]))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _sum_in_pairs(terms: Array, axes: tuple[int, ...]) -> Array:
    """The sum over axes, entry by entry, with what rounding loses summed up beside it.

    Where the terms have a factor that is no constant, XLA for CPU writes an array of that factor
    for a plain sum; this one is slower, but one loop without a temporary.
    """

    def add(one: tuple[Array, Array], two: tuple[Array, Array]) -> tuple[Array, Array]:
        both = one[0] + two[0]
        second = both - one[0]
        lost = (one[0] - (both - second)) + (two[0] - second)
        return both, one[1] + two[1] + lost

    zero = jnp.zeros((), terms.dtype)
    rounded, lost = lax.reduce((terms, jnp.zeros_like(terms)), (zero, zero), add, axes)
    # What infinite terms lose is NaN.
    return jnp.where(jnp.isfinite(rounded), rounded + lost, rounded)


@_sum_in_pairs.defjvp
def _sum_in_pairs_jvp(
    axes: tuple[int, ...], primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    return _sum_in_pairs(primals[0], axes), jnp.sum(tangents[0], axis=axes)
