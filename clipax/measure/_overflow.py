"""The second read after an overflow, for CPUs: sums of squares scaled by a power of two."""

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

__all__ = ["hide_scale", "overflow_scale", "sum_rescaled_squares"]

_SMALL = 2**14
"""Up to this many entries a plain sum with its temporary is cheaper than a loop of pairs.

A branch costs time even where it is not taken: for 150 leaves a third of a millisecond with loops
of pairs, a third of that with plain sums.
"""


def overflow_scale(dtype: Any) -> float:
    """Return the scale that undoes an overflow: squaring leaves half of the range of exponents."""
    return 2.0 ** -(jnp.finfo(dtype).maxexp // 2)


def hide_scale(dtype: Any) -> Array:
    """Put `overflow_scale` behind a barrier, so that it is no constant.

    XLA would reorder the product: square the constant, to zero, and the entries, to infinity.
    """
    return lax.optimization_barrier(jnp.asarray(overflow_scale(dtype), dtype))


def sum_rescaled_squares(values: Sequence[Array], layout: Layout, dtype: Any) -> Norms:
    """Sum the squares of the arrays times `overflow_scale`, by label."""
    scale = hide_scale(dtype)
    sums: list[Array] = []
    for value, whole, block in zip(values, layout.whole, layout.blocks, strict=True):
        add = _sum_in_pairs if whole and value.size > _SMALL else jnp.sum
        sums.append(add(_sums.square(value, dtype, scale), reduced_axes(value.ndim, block)))
    return _sums.add_by_label(sums, layout)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _sum_in_pairs(terms: Array, axes: tuple[int, ...]) -> Array:
    """Sum non-negative terms in a loop, and beside the sum the rounding errors (compensated).

    Where the terms have a factor that is no constant, XLA for CPU broadcasts it to an array for a
    plain sum and writes that out. This loop is slower, but needs no temporary: .0008 instead of
    .13 times the parameters' bytes (`benchmarks/NOTES.md`), in a branch that is rarely taken.
    """
    zero = jnp.zeros((), terms.dtype)
    rounded, lost = lax.reduce((terms, jnp.zeros_like(terms)), (zero, zero), _add_pairs, axes)
    # The rounding error of an infinite sum is NaN.
    return jnp.where(jnp.isfinite(rounded), rounded + lost, rounded)


@_sum_in_pairs.defjvp
def _sum_in_pairs_jvp(
    axes: tuple[int, ...], primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    return _sum_in_pairs(primals[0], axes), jnp.sum(tangents[0], axis=axes)


def _add_pairs(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
    """Add two pairs of a sum and its rounding error.

    The error is exact where the first sum is the larger, as in a loop after its first few terms.
    """
    both = first[0] + second[0]
    return both, ((first[0] - both) + second[0]) + (first[1] + second[1])
