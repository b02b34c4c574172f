"""Plain and scaled sums of squares from one read, for GPUs and TPUs.

A conditional around a second read makes a GPU's host wait for the device at every step. Both sums
together cost no kernel and no byte more (`benchmarks/NOTES.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from clipax._typing import Array, Norms
from clipax.measure import _sums
from clipax.measure._gather import Layout
from clipax.measure._kernels import sum_apart, sum_on_gpu
from clipax.measure._overflow import hide_scale, overflow_scale

__all__ = ["Both", "sum_both", "sum_plain", "take_norms"]


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
    values: Sequence[Array], layout: Layout, dtype: Any, *, on_gpu: bool
) -> dict[str, Both]:
    """Sum the squares of the arrays both ways, by label.

    Args:
      values: The arrays.
      layout: What is known of them.
      dtype: The type in which to sum.
      on_gpu: Whether one reduction takes both sums of an array. XLA for GPU would run the second
        stages of two reductions as two kernels; XLA for TPU writes out the squares for pairs, and
        merges two reductions by itself.
    """
    scale = hide_scale(dtype)

    def square(entries: Array) -> tuple[Array, ...]:
        return _sums.square(entries, dtype), _sums.square(entries, dtype, scale)

    sums = (sum_on_gpu if on_gpu else sum_apart)(square, values, layout)
    return {label: Both(*parts) for label, parts in sums.items()}


def sum_plain(values: Sequence[Array], layout: Layout, dtype: Any) -> Norms:
    """Sum the squares of the arrays for a GPU, as they are, by label."""
    sums = sum_on_gpu(lambda entries: (_sums.square(entries, dtype),), values, layout)
    return {label: plain for label, (plain,) in sums.items()}


def take_norms(sums: dict[str, Both]) -> Norms:
    """Take all norms at once, so that XLA for GPU merges the kernels that read them."""
    if not sums:
        return {}
    columns = zip(*sums.values(), strict=True)
    both = Both(*(jnp.concatenate([jnp.ravel(part) for part in column]) for column in columns))
    vector = lax.optimization_barrier(both.norms())
    ends = np.cumsum([both.plain.size for both in sums.values()])[:-1]
    parts = zip(sums.items(), jnp.split(vector, ends), strict=True)
    return {label: part.reshape(both.plain.shape) for (label, both), part in parts}
