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
    values: Sequence[Array], parts: Sequence[Array], layout: Layout, dtype: Any, scales: Norms
) -> Norms:
    """Sum the squares of the arrays, each times its block's scale, by label.

    Where arrays share a scale, XLA for CPU broadcasts it once for all of them and writes that out.
    A selection by its plain sum makes each array's scale another number to XLA: where that is NaN,
    so is the norm (`benchmarks/NOTES.md`).

    Args:
      values: The arrays.
      parts: The plain sum of the squares of each.
      layout: What is known of them.
      dtype: The type in which to sum.
      scales: By label.
    """
    sums: list[Array] = []
    for value, part, block in zip(values, parts, layout.blocks, strict=True):
        scale = jnp.where(jnp.isnan(part), part, scales[block.label])
        axes = reduced_axes(value.ndim, block)
        sums.append(jnp.sum(_sums.square(value, dtype, jnp.expand_dims(scale, axes)), axes))
    return _sums.add_by_label(sums, layout)
