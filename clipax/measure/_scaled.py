"""Sums of squares at two scales from one read, for GPUs and TPUs.

A conditional around a second read makes a GPU's host wait for the device at every step. All sums
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
from clipax.measure._again import enlarge, hide_scale, shrink
from clipax.measure._gather import Layout
from clipax.measure._kernels import sum_apart, sum_on_gpu

__all__ = ["Squares", "sum_plain", "sum_scaled", "take_norms"]


class Squares(NamedTuple):
    """Sums of the same squares at two scales; one of them is exact, for norms from 1e-18 on.

    Attributes:
      scales: The scales of the entries, the larger one first.
      sums: The sums, arrays of one shape.
    """

    scales: tuple[float, float]
    sums: tuple[Array, ...]

    def norms(self) -> Array:
        """Take the root of the first sum, or where it overflowed of the second."""
        large, small = self.sums
        over = jnp.isinf(large)
        back = jnp.where(over, 1 / self.scales[1], 1 / self.scales[0]).astype(large.dtype)
        return _sums.take_root(jnp.where(over, small, large)) * back


def sum_scaled(
    values: Sequence[Array], layout: Layout, dtype: Any, *, on_gpu: bool
) -> dict[str, Squares]:
    """Sum the squares of the arrays at two scales, by label.

    Args:
      values: The arrays.
      layout: What is known of them.
      dtype: The type in which to sum.
      on_gpu: Whether one reduction takes all sums of an array. XLA for GPU would run the second
        stages of several reductions as several kernels; XLA for TPU writes out the squares for
        a reduction of several, and merges reductions by itself.
    """
    units = [on_gpu and (bool(block.keep) or layout.computed) for block in layout.blocks]
    local: dict[str, tuple[Array, ...]] = {}
    by_label: dict[str, tuple[float, float]] = {}
    for unit in dict.fromkeys(units):
        scales = _list_scales(dtype, plain=unit)
        hidden = [None if scale == 1 else hide_scale(scale, dtype) for scale in scales]

        def square(entries: Array, hidden: Sequence[Array | None] = hidden) -> tuple[Array, ...]:
            return tuple(_sums.square(entries, dtype, scale) for scale in hidden)

        chosen = [place for place, other in enumerate(units) if other == unit]
        part = layout.select(chosen)
        add = sum_on_gpu if on_gpu else sum_apart
        sums = add(square, [values[place] for place in chosen], part)
        local |= sums
        by_label |= dict.fromkeys(sums, scales)
    # All in one collective.
    sums = layout.mesh.psum(local)
    return {label: Squares(by_label[label], row) for label, row in sums.items()}


def _list_scales(dtype: Any, *, plain: bool) -> tuple[float, float]:
    """List the scales at which to sum, the larger one first.

    The first sum overflows only where the second is exact, in float32 from 1e10 on. A third would
    be exact below 1e-18, too, but takes memory on a TPU, and on many devices a number more for each
    leaf (`benchmarks/NOTES.md`). XLA for GPU takes more kernels for units, and for what is computed
    as it is read, where both are scaled: of these the first sum is `plain`. A GPU keeps subnormal
    squares, so that it is exact from norms of 1e-19 times the root of the entries on.
    """
    return (1.0 if plain else enlarge(dtype), shrink(dtype))


def sum_plain(values: Sequence[Array], layout: Layout, dtype: Any) -> Norms:
    """Sum the squares of the arrays for a GPU, as they are, by label."""
    sums = sum_on_gpu(lambda entries: (_sums.square(entries, dtype),), values, layout)
    return {label: plain for label, (plain,) in sums.items()}


def take_norms(sums: dict[str, Squares]) -> Norms:
    """Take all norms at once, so that XLA for GPU merges the kernels that read them."""
    norms: Norms = {}
    for scales in dict.fromkeys(squares.scales for squares in sums.values()):
        rows = {label: row for label, row in sums.items() if row.scales == scales}
        columns = zip(*(row.sums for row in rows.values()), strict=True)
        joined = tuple(jnp.concatenate([jnp.ravel(part) for part in column]) for column in columns)
        vector = lax.optimization_barrier(Squares(scales, joined).norms())
        ends = np.cumsum([row.sums[0].size for row in rows.values()])[:-1]
        parts = zip(rows.items(), jnp.split(vector, ends), strict=True)
        norms |= {label: part.reshape(row.sums[0].shape) for (label, row), part in parts}
    return norms
