"""The tail index of norms in bins, with its uncertainty."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from clipax._statistics import _histogram
from clipax.diagnostics._advice._distribution import rank_of

__all__ = ["Tail", "estimate_tail"]


class Tail(NamedTuple):
    """An estimate of the tail index.

    Attributes:
      alpha: The estimate; infinite where no norm stands out of the bin in which the tail begins.
      low: From here on the index lies with 95 %.
      high: To here.
      norms: Number of norms that it rests on.
    """

    alpha: float
    low: float
    high: float
    norms: int


def estimate_tail(bins: np.ndarray, counts: np.ndarray) -> Tail:
    """Estimate the index as `clipax.diagnostics.tail_index` does, at any scale.

    The standard deviation of its logarithm is that of `k` exponential variables, `1 / sqrt(k)`.

    Args:
      bins: Bins of the width of the histogram that hold norms, ascending.
      counts: Norms in each.
    """
    cumulative = np.cumsum(counts)
    total = int(cumulative[-1])
    begin = int(np.searchsorted(cumulative, rank_of(1 - _histogram.TAIL_FRACTION, total)))
    norms = total - int(cumulative[begin])
    beyond = float(((bins[begin + 1 :] - bins[begin] - 1) * counts[begin + 1 :]).sum())
    if not beyond:
        return Tail(math.inf, math.inf, math.inf, norms)
    index = math.log1p(norms / beyond) / _histogram.WIDTH
    factor = math.exp(1.96 / math.sqrt(norms))
    return Tail(index, index / factor, index * factor, norms)
