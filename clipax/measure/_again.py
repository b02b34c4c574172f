"""Where sums of squares are exact, and the second read elsewhere, for CPUs.

A plain sum of squares overflows at a norm of 2^64 in float32, and squares of entries below 2^-63
vanish. Entries are there scaled by a power of two first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from clipax._typing import Array, Norms
from clipax.measure import _sums
from clipax.measure._gather import Layout
from clipax.measure._leaves import reduced_axes

__all__ = [
    "choose_scale",
    "enlarge",
    "hide_scale",
    "lower_bounds",
    "shrink",
    "sum_rescaled_squares",
]

_SMALL = 2**14
"""Up to this many entries a plain sum with its temporary is cheaper than a loop of pairs.

A branch costs time even where it is not taken: for 150 leaves a third of a millisecond with loops
of pairs, a third of that with plain sums.
"""

_MARGIN = 20
"""Half of the bits by which the ranges of the sums overlap: for 2^40 entries."""


def shrink(dtype: Any) -> float:
    """Return the scale that undoes an overflow: squaring leaves half of the range of exponents."""
    return 2.0 ** -(jnp.finfo(dtype).maxexp // 2)


def stretch(dtype: Any) -> float:
    """Return the scale below `lower_bounds`: 2^96 in float32.

    The largest that overflows at no norm there; the smallest normal number then has an exact
    square.
    """
    info = jnp.finfo(dtype)
    return 2.0 ** (info.maxexp // 2 + (-info.minexp - info.nmant) // 2 - _MARGIN + 1)


def enlarge(dtype: Any) -> float:
    """Return the scale that serves beside `shrink` alone: 2^31 in float32.

    The largest whose sum overflows only where that of shrunken entries is exact.
    """
    info = jnp.finfo(dtype)
    return 2.0 ** ((-info.minexp - info.nmant) // 2 - _MARGIN)


def lower_bounds(values: Sequence[Array], layout: Layout, dtype: Any) -> dict[str, float]:
    """Return the sum of squares, by label, from which on squares that vanish make no difference.

    Each entry loses up to the smallest normal number, all of them together no more than a rounding.
    """
    entries: dict[str, int] = {}
    for value, block, shared in zip(values, layout.blocks, layout.copies, strict=True):
        size = math.prod(value.shape[axis] for axis in reduced_axes(value.ndim, block))
        size *= layout.mesh.devices() // shared * len(_sums.split_complex(value))
        entries[block.label] = entries.get(block.label, 0) + size
    info = jnp.finfo(dtype)
    least = float(info.smallest_normal) * 2.0**info.nmant
    return {label: min(size, 2 ** (2 * _MARGIN)) * least for label, size in entries.items()}


def choose_scale(plain: Array, bound: Any) -> Array:
    """Choose the scale of a block's entries by the plain sum of their squares."""
    one = jnp.ones_like(plain)
    up, down = stretch(plain.dtype) * one, shrink(plain.dtype) * one
    # NaN fails both comparisons.
    return jnp.where(plain < bound, up, jnp.where(jnp.isinf(plain), down, one))


def hide_scale(scale: float, dtype: Any) -> Array:
    """Put a scale behind a barrier, so that it is no constant.

    XLA would reorder the product: square the constant, to zero, and the entries, to infinity.
    """
    return lax.optimization_barrier(jnp.asarray(scale, dtype))


def sum_rescaled_squares(
    values: Sequence[Array], layout: Layout, dtype: Any, scales: Norms
) -> Norms:
    """Sum the squares of the arrays, each times its block's scale, by label."""
    sums: list[Array] = []
    for value, whole, block in zip(values, layout.whole, layout.blocks, strict=True):
        axes = reduced_axes(value.ndim, block)
        scale = jnp.expand_dims(scales[block.label], axes)
        add = _sum_in_pairs if whole and value.size > _SMALL else jnp.sum
        sums.append(add(_sums.square(value, dtype, scale), axes))
    return _sums.add_by_label(sums, layout)


def _sum_in_pairs(terms: Array, axes: tuple[int, ...]) -> Array:
    """Sum non-negative terms in a loop, each sum as two numbers that do not overlap.

    Where the terms have a factor that is no constant, XLA for CPU broadcasts it to an array for a
    plain sum and writes that out. This loop is slower, but needs no temporary: .0008 instead of
    .13 times the parameters' bytes (`benchmarks/NOTES.md`), in a branch that is rarely taken.
    It is one chain of additions, in which a single float32 stands still after 2^24 equal terms.
    """
    zero = jnp.zeros((), terms.dtype)
    rounded, lost = lax.reduce((terms, jnp.zeros_like(terms)), (zero, zero), _add_pairs, axes)
    # The rounding error of an infinite sum is NaN.
    return jnp.where(jnp.isfinite(rounded), rounded + lost, rounded)


def _add_pairs(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
    """Add two pairs of a sum and its rounding error.

    The error is exact where the first sum is the larger, as in a loop after its first few terms.
    """
    both = first[0] + second[0]
    lost = ((first[0] - both) + second[0]) + (first[1] + second[1])
    # Into the sum with all that fits: errors added up by themselves would stand still in turn.
    total = both + lost
    return total, (both - total) + lost
