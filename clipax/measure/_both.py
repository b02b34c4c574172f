"""Plain and scaled sums of squares from one read, for GPUs and TPUs.

A conditional around a second read makes a GPU's host wait for the device at every step. Both sums
together cost no kernel and no byte more (`benchmarks/NOTES.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from clipax._typing import Array
from clipax.measure import _sums
from clipax.measure._gather import LARGEST, Layout
from clipax.measure._leaves import reduced_axes
from clipax.measure._overflow import hide_scale, overflow_scale

__all__ = ["Both", "sum_both"]


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
    parts: dict[str, list[Both]] = {}
    large = [value.ndim > 1 and value.size > LARGEST for value in values]
    rows = zip(values, layout.blocks, layout.copies, layout.whole, strict=True)
    for (value, block, copies, whole), splits in zip(rows, large, strict=True):
        axes = reduced_axes(value.ndim, block)
        squares = _sums.square(value, dtype), _sums.square(value, dtype, scale)
        if in_pairs and whole:
            # Rows first, all second stages together: one kernel, not one for each array.
            by_rows = splits and sum(large) > 1 and not block.keep
            both = _sum_pairs(*squares, axes[1:] if by_rows else axes)
        else:
            both = Both(*(jnp.sum(terms, axes) for terms in squares))
        # A shard that several devices hold counts once.
        share = both if copies == 1 else Both(*(part / copies for part in both))
        parts.setdefault(block.label, []).append(share)
    units = {block.label for block in layout.blocks if block.keep}
    sums = {label: _add(row) for label, row in parts.items() if label in units}
    sums |= _add_rows({label: row for label, row in parts.items() if label not in units})
    return layout.mesh.psum(sums)


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
