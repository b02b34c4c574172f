"""All norms so far in fixed memory: how many lay below each of 1,024 bounds.

The bounds are the powers of `2**(1/8)` from `2**-64` to `2**64`. The counts are cumulative, so that
an update and a quantile need comparisons and sums alone, no scatter.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from clipax._export import exportable
from clipax._statistics import _window
from clipax._typing import Array, Scalar

__all__ = [
    "BINS",
    "PRECISION",
    "TAIL_FRACTION",
    "WIDTH",
    "HistogramState",
    "count_above",
    "from_norms",
    "init",
    "quantile",
    "tail_index",
    "total",
    "update",
]

_OCTAVES = 64  # on either side of 1
_PER_OCTAVE = 8
BINS = 2 * _OCTAVES * _PER_OCTAVE
WIDTH = math.log(2) / _PER_OCTAVE
"""Width of a bin on the scale of natural logarithms."""
PRECISION = 2 ** (1 / (2 * _PER_OCTAVE))
"""The largest ratio of a norm to the middle of its bin."""
TAIL_FRACTION = 0.05
"""Share of the norms in the tail; `python -m benchmarks tail-index` compares others."""
# Norms below the first bin count in it, and norms above the last bin in the last.
_BOUNDS = np.append(2.0 ** (np.arange(1, BINS) / _PER_OCTAVE - _OCTAVES), np.inf)
_MOST = np.iinfo(np.int32).max


# Outside of `jit` these run as one program each, not as a dozen operations on thousands of counts.
_one_program = partial(jax.jit, inline=True)


@exportable
class HistogramState(NamedTuple):
    """The distribution of the norms so far.

    Attributes:
      cumulative: Number of norms below the upper bound of each bin, int32; one more axis than the
        norms have, 4 KiB a block. The last entry counts all norms; at 2^31 - 1 all stand still.
    """

    cumulative: Array


def init(shape: tuple[int, ...]) -> HistogramState:
    """Make the state before the first step."""
    return HistogramState(jnp.zeros((*shape, BINS), jnp.int32))


def update(state: HistogramState, norms: Array) -> HistogramState:
    """Add one norm of each block; an infinite one changes nothing."""
    below = (norms[..., None] < _bounds(norms.dtype)) & (total(state) < _MOST)[..., None]
    return HistogramState(state.cumulative + below.astype(jnp.int32))


@_one_program
def from_norms(norms: Array) -> HistogramState:
    """Make the histogram of the finite norms along the last axis."""
    finite = jnp.isfinite(norms)
    ordered = jnp.sort(jnp.where(finite, norms, jnp.inf), axis=-1)
    flat = ordered.reshape(math.prod(norms.shape[:-1]), norms.shape[-1])
    counts = jax.vmap(jnp.searchsorted, in_axes=(0, None))(flat, _bounds(norms.dtype))
    return HistogramState(counts.astype(jnp.int32).reshape(*norms.shape[:-1], BINS))


def total(state: HistogramState) -> Array:
    """Return the number of norms."""
    return state.cumulative[..., -1]


@_one_program
def quantile(state: HistogramState, share: Array) -> Array:
    """Compute the middle of the bin that holds the norm of rank `ceil(share * total)`.

    Within a factor `PRECISION` of that norm, if it lies in [2^-64, 2^64].
    """
    return _lower_bound(state, _window.rank(share, total(state))) * PRECISION


@_one_program
def count_above(state: HistogramState, norm: Array) -> Array:
    """Count the norms in the bins above that of a norm."""
    inside = jnp.sum(norm[..., None] >= _bounds(norm.dtype), axis=-1, dtype=jnp.int32)
    return total(state) - _window.select(state.cumulative, inside)


@_one_program
def tail_index(state: HistogramState, fraction: Scalar = TAIL_FRACTION) -> Array:
    """Estimate the index of a power law for the largest norms: P(n > x) falls as x^-index.

    Hill's estimator for binned norms. Above a bound, the number of whole bins by which a Pareto
    norm exceeds it is geometric, and the maximum of the likelihood has a closed form: binning costs
    no bias.

    Args:
      state: The norms.
      fraction: The largest share of the norms that count as the tail. The tail begins at the first
        bound with at most that share above it.

    Returns:
      Positive; infinity where there is no tail to be seen: no norms, or all in one bin.
    """
    share = jnp.asarray(1 - fraction, float)
    begins = _window.rank(share, total(state))
    tail = state.cumulative >= begins[..., None]
    # Count the bins above the tail's first one, summed over its norms: a norm adds one for every
    # upper bound that it exceeds.
    beyond = (total(state)[..., None] - state.cumulative).astype(share.dtype)
    exceeding = jnp.max(jnp.where(tail, beyond, 0), axis=-1)
    bins = jnp.sum(jnp.where(tail, beyond, 0), axis=-1) - exceeding
    has_tail = bins > 0
    index = jnp.log1p(exceeding / jnp.where(has_tail, bins, 1)) / WIDTH
    return jnp.where(has_tail, index, jnp.inf)


def _bounds(dtype: jnp.dtype) -> Array:
    """Return the upper bound of each bin."""
    return jnp.asarray(_BOUNDS, dtype)


def _lower_bound(state: HistogramState, rank: Array) -> Array:
    """Find the lower bound of the bin that holds the norm of a rank, counted from 1.

    A maximum: XLA computes a reduction once for all leaves that its result scales, and would repeat
    an indexed access in each.
    """
    # No bin lies above the last one.
    passed = state.cumulative[..., :-1] < rank[..., None]
    return jnp.max(jnp.where(passed, jnp.asarray(_BOUNDS[:-1], float), 2.0**-_OCTAVES), axis=-1)
