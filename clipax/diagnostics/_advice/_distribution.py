"""Norms by size, exact or in the bins of a state: quantiles, counts, candidates for a threshold."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from clipax._statistics import _histogram

__all__ = ["BEYOND", "Binned", "Candidate", "Distribution", "Exact", "rank_of", "shorten"]

_TIED = 1e-6
"""Norms that all lie this close are equal: float32 tells them apart by rounding alone."""
BEYOND = float(2.0 ** (64 - 1 / 8))
"""The lower bound of the last bin of a state, which has no upper one."""


class Candidate(NamedTuple):
    """A threshold between two norms.

    Attributes:
      value: It.
      above: How many norms are above it, counted.
      text: It as a user is told it.
    """

    value: float
    above: int
    text: str


class Distribution(Protocol):
    """Positive finite norms by size."""

    @property
    def total(self) -> int:
        """Return the number of norms."""

    def quantile(self, share: float) -> float:
        """Return the norm of rank `ceil(share * total)`."""

    def count_above(self, threshold: float) -> tuple[int, int]:
        """Count the norms above a threshold: at least and at most so many."""

    def candidate(self, share: float) -> Candidate | None:
        """Find the threshold whose share of norms above is nearest; None where all are equal."""

    def bins(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the bins that hold norms, ascending, in the width of `_histogram`, and counts."""


class Exact(NamedTuple):
    """Norms that are known one by one.

    Attributes:
      ordered: The norms, ascending.
    """

    ordered: np.ndarray

    @property
    def total(self) -> int:
        """Return the number of norms."""
        return len(self.ordered)

    def quantile(self, share: float) -> float:
        """Return the norm of rank `ceil(share * total)`."""
        return float(self.ordered[rank_of(share, self.total) - 1])

    def count_above(self, threshold: float) -> tuple[int, int]:
        """Count the norms above a threshold."""
        above = self.total - int(np.searchsorted(self.ordered, threshold, side="right"))
        return above, above

    def candidate(self, share: float) -> Candidate | None:
        """Find the threshold whose share of norms above is nearest; None where all are equal.

        It lies between two norms that differ in float32, so that a run clips what was counted, and
        has as few digits as the share allows.
        """
        if not self.total or self.ordered[0] >= self.ordered[-1] * (1 - _TIED):
            return None
        single = _round_to_single(self.ordered)
        gaps = np.flatnonzero(single[:-1] < single[1:])
        target = self.total - 1 - gaps
        place = int(np.argmin(np.abs(target - share * self.total)))
        low, high = (float(norm) for norm in self.ordered[gaps[place] : gaps[place] + 2])
        wanted = int(target[place])
        middle = float(np.sqrt(low) * np.sqrt(high))
        allowed = 0.1 * min(wanted, self.total - wanted)
        for digits in range(3, 10):
            value = shorten(middle, digits)
            found, _ = self.count_above(value)
            rounded, _ = self.count_above(float(_round_to_single(np.asarray(value))))
            if abs(found - wanted) <= allowed and rounded == found:
                short = f"{value:g}"
                return Candidate(value, found, short if float(short) == value else repr(value))
        value = float(single[gaps[place]])
        return Candidate(value, self.count_above(value)[0], repr(value))

    def bins(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the bins that hold norms, ascending, and their counts."""
        places = np.floor(np.log2(self.ordered) * np.log(2) / _histogram.WIDTH)
        return np.unique(places.astype(np.int64), return_counts=True)


class Binned(NamedTuple):
    """Norms that a state has counted in its bins; shares are exact at their bounds.

    Attributes:
      counts: Norms by bin. The first bin counts zeros and what lies below all bins: it is left out.
    """

    counts: np.ndarray

    @property
    def total(self) -> int:
        """Return the number of norms."""
        return int(self.counts[1:].sum())

    def quantile(self, share: float) -> float:
        """Return the middle of the bin of the norm of rank `ceil(share * total)`."""
        place = 1 + int(np.searchsorted(np.cumsum(self.counts[1:]), rank_of(share, self.total)))
        return float(_bound(place) * _histogram.PRECISION)

    def count_above(self, threshold: float) -> tuple[int, int]:
        """Count the norms above a threshold: those in higher bins, and with those in its own."""
        # A bin holds its lower bound, and a norm equal to the threshold is not above it.
        bounds = _bound(np.arange(1, _histogram.BINS))
        place = int(np.searchsorted(bounds, threshold, side="right"))
        least = int(self.counts[place + 1 :].sum())
        return least, least + int(self.counts[max(place, 1)]) * (place > 0)

    def candidate(self, share: float) -> Candidate | None:
        """Find the threshold whose share of norms above is nearest; None with all in one bin.

        It is the largest float32 below the bound of a bin, as norms at the bound count above it; or
        a short number where the bins beside it are empty.
        """
        filled = np.flatnonzero(self.counts[1:]) + 1
        if filled.size < 2:
            return None
        above = self.total - np.cumsum(self.counts[filled])[:-1]
        place = int(np.argmin(np.abs(above - share * self.total)))
        low, high = _bound(filled[place] + 1), _bound(filled[place + 1])
        value = float(np.nextafter(np.float32(low), np.float32(0)))
        if low < high:
            middle = shorten(float(np.sqrt(low) * np.sqrt(high)), 3)
            value = middle if low < middle < high else value
        return Candidate(value, int(above[place]), f"{value:.4g}")

    def bins(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the bins that hold norms, ascending, and their counts."""
        filled = np.flatnonzero(self.counts[1:]) + 1
        return filled, self.counts[filled]

    def bounds(self) -> tuple[float, float]:
        """Return the bounds between which all norms lie; the upper one infinite in the last bin."""
        low, high = (np.flatnonzero(self.counts[1:]) + 1)[[0, -1]]
        return float(_bound(low)), float(_bound(high + 1)) if high + 1 < len(
            self.counts
        ) else np.inf

    @property
    def overflows(self) -> bool:
        """Tell whether there are norms in the last bin, which has no upper bound."""
        return bool(self.counts[-1] > 0)


def rank_of(share: float, total: int) -> int:
    """Return `ceil(share * total)` in [1, total], a whole number up to rounding for itself."""
    return int(np.clip(np.ceil(share * total * (1 - 1e-12)), 1, max(total, 1)))


def shorten(value: float, digits: int) -> float:
    """Round to significant digits."""
    return float(f"{value:.{digits - 1}e}")


def _round_to_single(norms: np.ndarray) -> np.ndarray:
    """Round to the digits of float32, whatever the exponent."""
    fraction, exponent = np.frexp(norms)
    with np.errstate(over="ignore"):
        return np.ldexp(np.round(fraction * 2.0**24) * 2.0**-24, exponent)


def _bound(place: np.ndarray | int) -> np.ndarray:
    """Return the lower bound of a bin of a state's histogram."""
    middle = _histogram.BINS // 2
    return np.exp2((np.asarray(place, float) - middle) * (_histogram.WIDTH / np.log(2)))
