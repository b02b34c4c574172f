"""Sums of squares that overflowed, once more: of entries scaled down by a power of two."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from clipax._typing import Array, Norms
from clipax.measure import _sums
from clipax.measure._gather import Layout
from clipax.measure._leaves import reduced_axes

__all__ = ["rescaled_square_sums", "rescaling"]

_SMALL = 2**14
"""Entries up to which a temporary is cheaper than a loop of pairs.

A branch costs time even where it is not taken: for 150 leaves a third of a millisecond with loops
of pairs, a third of that with plain sums.
"""


def rescaling(dtype: Any) -> float:
    """Squaring halves the range of exponents; this scale gives the upper half back."""
    return 2.0 ** -(jnp.finfo(dtype).maxexp // 2)


def rescaled_square_sums(values: Sequence[Array], layout: Layout, dtype: Any) -> Norms:
    """Sums of squares of the pieces times `rescaling`, by label."""
    # Behind a barrier the scale is no constant: XLA would square it by itself, to zero, and the
    # entries by themselves, to infinity.
    scale = lax.optimization_barrier(jnp.asarray(rescaling(dtype), dtype))
    sums: list[Array] = []
    for value, whole, block in zip(values, layout.whole, layout.blocks, strict=True):
        add = _sum_in_pairs if whole and value.size > _SMALL else jnp.sum
        sums.append(add(_sums.squares(value, dtype, scale), reduced_axes(value.ndim, block)))
    return _sums.add_by_label(sums, layout)


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
