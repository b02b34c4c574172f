"""All norms so far in fixed memory: how many lay below each of 1,024 bounds.

The bounds are the powers of `2**(1/8)` from `2**-64` to `2**64`; the counts are cumulative, so that
an update and a quantile are comparisons and sums alone, without a scatter.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from clipax._statistics import _window
from clipax._typing import Array, Scalar

__all__ = [
    "BINS",
    "PRECISION",
    "TAIL_FRACTION",
    "WIDTH",
    "HistogramState",
    "above",
    "added",
    "first",
    "of",
    "quantile",
    "tail_index",
    "total",
]

_OCTAVES = 64  # on either side of 1
_PER_OCTAVE = 8
BINS = 2 * _OCTAVES * _PER_OCTAVE
WIDTH = math.log(2) / _PER_OCTAVE
"""Of a bin, on the scale of natural logarithms."""
PRECISION = 2 ** (1 / (2 * _PER_OCTAVE))
"""The largest ratio of a norm to the middle of its bin."""
TAIL_FRACTION = 0.05
"""The share of the norms that count as the tail; `benchmarks/tail_index.py` compares others."""
# Norms below the first bin count in it, and those above the last one in that.
_BOUNDS = np.append(2.0 ** (np.arange(1, BINS) / _PER_OCTAVE - _OCTAVES), np.inf)
_MOST = np.iinfo(np.int32).max


# Compiled as one piece where the step as a whole is not: a dozen operations on thousands of counts.
_one_piece = partial(jax.jit, inline=True)


class HistogramState(NamedTuple):
    """The distribution of the norms so far.

    Attributes:
      cumulative: Number of norms below the upper bound of each bin, int32; one more axis than the
        norms have, 4 KiB a block. The last is the number of all norms; at 2^31 - 1 all stand still.
    """

    cumulative: Array


def first(shape: tuple[int, ...]) -> HistogramState:
    """The state before the first step."""
    return HistogramState(jnp.zeros((*shape, BINS), jnp.int32))


def added(state: HistogramState, norms: Array) -> HistogramState:
    """The state with one more norm of each block."""
    below = (norms[..., None] < _bounds(norms.dtype)) & (total(state) < _MOST)[..., None]
    return HistogramState(state.cumulative + below.astype(jnp.int32))


@_one_piece
def of(norms: Array) -> HistogramState:
    """The histogram of the finite ones among many norms, along the last axis."""
    finite = jnp.isfinite(norms)
    ordered = jnp.sort(jnp.where(finite, norms, jnp.inf), axis=-1)
    flat = ordered.reshape(math.prod(norms.shape[:-1]), norms.shape[-1])
    counts = jax.vmap(jnp.searchsorted, in_axes=(0, None))(flat, _bounds(norms.dtype))
    return HistogramState(counts.astype(jnp.int32).reshape(*norms.shape[:-1], BINS))


def total(state: HistogramState) -> Array:
    """Number of norms."""
    return state.cumulative[..., -1]


@_one_piece
def quantile(state: HistogramState, share: Array) -> Array:
    """The middle of the bin in which the norm of rank `ceil(share * total)` lies.

    Within a factor `PRECISION` of that norm, if it lies in [2^-64, 2^64].
    """
    return _lower_bound(state, _window.rank(share, total(state))) * PRECISION


@_one_piece
def above(state: HistogramState, norm: Array) -> Array:
    """Number of the norms in the bins above that of a norm."""
    inside = jnp.sum(norm[..., None] >= _bounds(norm.dtype), axis=-1, dtype=jnp.int32)
    return total(state) - _window.taken(state.cumulative, inside)


@_one_piece
def tail_index(state: HistogramState, fraction: Scalar = TAIL_FRACTION) -> Array:
    """The index of a power law that the largest norms follow: P(n > x) falls as x^-index.

    Hill's estimator for binned norms. Above a bound, the number of whole bins that the logarithm of
    a Pareto norm lies further up is geometric, and the maximum of the likelihood has a closed form:
    the bins cost no bias.

    Args:
      state: The norms.
      fraction: The largest share of the norms that count as the tail. It begins at the bound above
        which there are at most so many.

    Returns:
      Positive; infinity where there is no tail to be seen: no norms, or all in one bin.
    """
    share = jnp.asarray(1 - fraction, float)
    begins = _window.rank(share, total(state))
    tail = state.cumulative >= begins[..., None]
    # Bins further up than the first of the tail, added over its norms: each counts once for every
    # upper bound that it lies above.
    beyond = (total(state)[..., None] - state.cumulative).astype(share.dtype)
    exceeding = jnp.max(jnp.where(tail, beyond, 0), axis=-1)
    bins = jnp.sum(jnp.where(tail, beyond, 0), axis=-1) - exceeding
    some = bins > 0
    index = jnp.log1p(exceeding / jnp.where(some, bins, 1)) / WIDTH
    return jnp.where(some, index, jnp.inf)


def _bounds(dtype: jnp.dtype) -> Array:
    """The upper bound of each bin."""
    return jnp.asarray(_BOUNDS, dtype)


def _lower_bound(state: HistogramState, rank: Array) -> Array:
    """Of the bin in which the norm of a rank from 1 lies.

    As a largest number, which XLA works out once for all leaves that are scaled by what comes of
    it; it would repeat an indexed access.
    """
    # The last bin has no bin above it.
    passed = state.cumulative[..., :-1] < rank[..., None]
    return jnp.max(jnp.where(passed, jnp.asarray(_BOUNDS[:-1], float), 2.0**-_OCTAVES), axis=-1)
