"""Plain and scaled sums of squares from one read, for GPUs and TPUs.

A conditional around a second read makes a GPU's host wait for the device at every step. Both sums
together cost no kernel and no byte more (`benchmarks/NOTES.md`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from clipax._typing import Array
from clipax.measure import _sums
from clipax.measure._gather import LARGEST, Layout
from clipax.measure._leaves import reduced_axes
from clipax.measure._overflow import hide_scale, overflow_scale

__all__ = ["Both", "sum_both", "take_norms"]


Square = Callable[[Array], tuple[Array, Array]]
"""From an array to the squares of its entries, as they are and scaled."""


class Both(NamedTuple):
    """Two sums of the same squares, arrays of one shape.

    Attributes:
      plain: Of the squares as they are.
      scaled: Of the squares of the entries times `overflow_scale`.
    """

    plain: Array
    scaled: Array

    def norms(self) -> Array:
        """Take the root of the sum that did not overflow."""
        over = jnp.isinf(self.plain)
        # Select the square before the root: the derivative of an infinite root is NaN.
        root = _sums.take_root(jnp.where(over, self.scaled, self.plain))
        return root * jnp.where(over, 1 / overflow_scale(root.dtype), 1).astype(root.dtype)


def sum_both(
    values: Sequence[Array], layout: Layout, dtype: Any, *, in_pairs: bool
) -> dict[str, Both]:
    """Sum the squares of the arrays both ways, by label.

    Args:
      values: The arrays.
      layout: What is known of them.
      dtype: The type in which to sum.
      in_pairs: Whether one reduction takes both sums of an array. XLA for GPU would run the second
        stages of two reductions as two kernels; XLA for TPU writes out the squares for pairs, and
        merges two reductions by itself. XLA reduces pairs over several devices by gathering them:
        an array of which another device may hold a part gets two reductions.
    """
    scale = hide_scale(dtype)

    def square(entries: Array) -> tuple[Array, Array]:
        return _sums.square(entries, dtype), _sums.square(entries, dtype, scale)

    parts: dict[str, list[Both]] = {}
    for place, both in enumerate(_sum_arrays(square, values, layout, in_pairs=in_pairs)):
        # A shard that several devices hold counts once.
        copies = layout.copies[place]
        share = both if copies == 1 else Both(*(part / copies for part in both))
        parts.setdefault(layout.blocks[place].label, []).append(share)
    units = {block.label for block in layout.blocks if block.keep}
    sums = {label: _add(row) for label, row in parts.items() if label in units}
    sums |= _add_rows({label: row for label, row in parts.items() if label not in units})
    return layout.mesh.psum(sums)


def _sum_arrays(
    square: Square, values: Sequence[Array], layout: Layout, *, in_pairs: bool
) -> list[Both]:
    """Sum the squares of each array."""
    sums: dict[int, Both] = {}
    alike: dict[Any, list[int]] = {}
    several = sum(value.size > LARGEST for value in values) > 1
    for place, (value, block) in enumerate(zip(values, layout.blocks, strict=True)):
        axes = reduced_axes(value.ndim, block)
        if not (in_pairs and layout.whole[place]):
            sums[place] = Both(*(jnp.sum(terms, axes) for terms in square(value)))
        elif value.size <= LARGEST:
            alike.setdefault((value.shape, value.dtype, axes), []).append(place)
        elif block.keep:
            sums[place] = _sum_columns(square, value, axes)
        else:
            # Rows first, all second stages together: one kernel, not one for each array.
            sums[place] = _sum_pairs(*square(value), axes[1:] if several and axes[1:] else axes)
    for (_, _, axes), places in alike.items():
        # Small arrays of one shape in one kernel.
        stack = jnp.stack([values[place] for place in places])
        plain, scaled = _sum_pairs(*square(stack), tuple(axis + 1 for axis in axes))
        sums |= {place: Both(plain[row], scaled[row]) for row, place in enumerate(places)}
    return [sums[place] for place in range(len(values))]


def take_norms(sums: dict[str, Both]) -> dict[str, Array]:
    """Take all norms at once, so that XLA for GPU merges the kernels that read them."""
    if not sums:
        return {}
    columns = (
        jnp.concatenate([jnp.ravel(part) for part in column])
        for column in zip(*sums.values(), strict=True)
    )
    vector = lax.optimization_barrier(Both(*columns).norms())
    ends = np.cumsum([both.plain.size for both in sums.values()])[:-1]
    parts = zip(sums.items(), jnp.split(vector, ends), strict=True)
    return {label: part.reshape(both.plain.shape) for (label, both), part in parts}


def _sum_columns(square: Square, value: Array, axes: tuple[int, ...]) -> Both:
    """Sum squares over the first axes of an array, in pieces of fewer rows than columns.

    XLA for GPU writes out the squares where a kernel would have few columns to work on side by
    side, and takes a second stage for thousands of rows. It fuses the sum of a few pieces into the
    kernel that reads them.
    """
    if axes != tuple(range(len(axes))):
        return _sum_pairs(*square(value), axes)
    kept = value.shape[len(axes) :]
    rows = math.prod(value.shape[: len(axes)])
    most = min(1024, math.prod(kept))
    fits = (n for n in range(2, rows // 64 + 1) if rows % n == 0 and rows // n <= most)
    pieces = next(fits, 1)
    plain, scaled = _sum_pairs(*square(value.reshape(pieces, rows // pieces, *kept)), (1,))
    return Both(_add_pieces(plain), _add_pieces(scaled))


def _add_pieces(pieces: Array) -> Array:
    """Add along the first axis: a few pieces one by one, which needs no kernel."""
    return sum(pieces[1:], start=pieces[0]) if len(pieces) <= 8 else jnp.sum(pieces, 0)


def _add(parts: Sequence[Both]) -> Both:
    """Add sums of one shape, both in one reduction."""
    if len(parts) == 1:
        return parts[0]
    rows = [part.plain for part in parts] + [part.scaled for part in parts]
    stacked = _sums.stack(rows)
    return Both(*jnp.sum(stacked.reshape(2, len(parts), *stacked.shape[1:]), axis=1))


def _add_rows(parts: dict[str, list[Both]]) -> dict[str, Both]:
    """Add all entries of the sums of each label: one reduction for the labels that have as many."""
    sums: dict[str, Both] = {}
    alike: dict[int, list[str]] = {}
    for label, row in parts.items():
        size = sum(part.plain.size for part in row)
        if size == 1:
            sums[label] = Both(*(part.reshape(()) for part in row[0]))
        else:
            alike.setdefault(size, []).append(label)
    for size, labels in alike.items():
        columns = zip(*(part for label in labels for part in parts[label]), strict=True)
        flat = jnp.concatenate([jnp.ravel(part) for column in columns for part in column])
        # Behind a barrier: XLA turns a sum of a concatenation into a chain of additions.
        table = lax.optimization_barrier(flat).reshape(2, len(labels), size)
        plain, scaled = jnp.sum(table, axis=-1)
        sums |= {label: Both(plain[row], scaled[row]) for row, label in enumerate(labels)}
    return sums


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _sum_pairs(plain: Array, scaled: Array, axes: tuple[int, ...]) -> Both:
    """Sum two arrays of terms in one reduction."""
    zero = jnp.zeros((), plain.dtype)
    return Both(*lax.reduce((plain, scaled), (zero, zero), _add_terms, axes))


@_sum_pairs.defjvp
def _sum_pairs_jvp(
    axes: tuple[int, ...], primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Both, Both]:
    return _sum_pairs(*primals, axes), Both(*(jnp.sum(part, axes) for part in tangents))


def _add_terms(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
    return first[0] + second[0], first[1] + second[1]
