"""Norms in the order of their steps: tenths of the run, stretches, drift."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clipax.diagnostics._advice._words import places, span

__all__ = [
    "LEAST_STEPS",
    "Clipping",
    "Series",
    "Stretch",
    "drifts",
    "find_longest",
    "judge",
    "medians_by_tenth",
    "middle",
    "tenths_of",
]

TENTHS = 10
LEAST_STEPS = 50
"""Norms from which on quantiles are read, tenths formed and a threshold proposed."""
_CHI_SQUARED = 27.9
"""The 99.9 % quantile of chi-squared with nine degrees of freedom: ten tenths that are alike."""
_DRIFT = 1.5
"""The ratio of medians of two tenths from which on a drift is worth a word."""
_LEAST_UNEVEN = 5
"""Clipped steps, and others, from which on their places are judged."""


class Series(NamedTuple):
    """The norms of a group of parameters, in the order of the steps.

    Attributes:
      norms: The norms that were logged, NaN or infinite where a step was not finite.
      steps: The step of each.
      name: The group; empty where there is one.
      has_steps: Whether the log says the steps; otherwise they are places, counted from 0.
      word: What such a place is called: "step", or "row" of a log that does not say its steps.
      rows: Number of rows, those without a norm and those that repeat a step included.
      missing: Steps or places of the rows without a norm.
      skipped: Number of rows of finite steps that a guard skipped.
      repeated: Number of rows left out because a later one has the same step.
      was_ordered: Whether the rows were in the order of their steps.
      clipped: Where the run's own clip acted; None without.
      blocks: Where each block was clipped, by name, where the log has blocks.
      is_raw: Whether these norms are those in front of the clip.
      is_largest: Whether a norm is the largest of several blocks.
      counted_nonfinite: Steps that were not finite by the run's own counter; None without.
      counted_share: Share of clipped steps by the run's own counter; None without.
    """

    norms: np.ndarray
    steps: np.ndarray
    name: str = ""
    has_steps: bool = False
    word: str = "step"
    rows: int = 0
    missing: np.ndarray = np.zeros(0, int)
    skipped: int = 0
    repeated: int = 0
    was_ordered: bool = True
    clipped: np.ndarray | None = None
    blocks: tuple[tuple[str, np.ndarray], ...] = ()
    is_raw: bool = True
    is_largest: bool = False
    counted_nonfinite: int | None = None
    counted_share: float | None = None

    @property
    def is_finite(self) -> np.ndarray:
        """Tell which steps were finite."""
        return np.isfinite(self.norms)

    @property
    def has_gradient(self) -> np.ndarray:
        """Tell which norms say something about the size of gradients: finite and not zero."""
        return self.is_finite & (self.norms > 0)

    @property
    def spacing(self) -> float:
        """Return how many steps lie between two norms as a rule; 1 where all are logged."""
        if not self.has_steps or len(self.steps) < 2:
            return 1
        return max(1.0, float(np.median(np.diff(self.steps))))

    def where(self, chosen: np.ndarray) -> str:
        """Write the steps of the chosen norms."""
        return places(self.steps[chosen], self.word)

    def between(self, first: int, last: int) -> str:
        """Write the steps from one place to another."""
        return span(self.steps[first], self.steps[last], self.word)


class Stretch(NamedTuple):
    """Steps in a row, by their places in a series: first, last and how many."""

    first: int
    last: int
    length: int


class Clipping(NamedTuple):
    """What a threshold did, or would have done, over a series.

    Attributes:
      clipped: Number of clipped steps.
      finite: Number of finite steps, those with a norm of zero included.
      tenths: Share of the finite steps clipped by tenth of the run, NaN without any; empty where
        there are too few steps.
      longest: The longest stretch of clipped steps among those logged; None without any.
      last: The place of the last clipped step; -1 without any.
      is_even: Whether the tenths are alike, up to chance and small differences.
    """

    clipped: int
    finite: int
    tenths: np.ndarray
    longest: Stretch | None
    last: int
    is_even: bool

    @property
    def share(self) -> float:
        """Return the share of the finite steps that is clipped."""
        return self.clipped / self.finite if self.finite else 0.0


def tenths_of(count: int) -> list[np.ndarray]:
    """Split places into tenths of the run, in order."""
    return np.array_split(np.arange(count), TENTHS)


def judge(series: Series, clipped: np.ndarray) -> Clipping:
    """Count the clipped steps over the run, by tenth, and in a row."""
    finite = series.is_finite
    clipped = clipped & finite
    count, total = int(clipped.sum()), int(finite.sum())
    tenths, even = np.zeros(0), True
    if total >= LEAST_STEPS:
        parts = tenths_of(len(clipped))
        hits = np.array([clipped[part].sum() for part in parts], float)
        sizes = np.array([finite[part].sum() for part in parts], float)
        tenths = np.divide(hits, sizes, out=np.full(TENTHS, np.nan), where=sizes > 0)
        even = _is_even(hits, sizes)
    last = int(np.flatnonzero(clipped)[-1]) if count else -1
    return Clipping(count, total, tenths, find_longest(clipped), last, even)


def _is_even(hits: np.ndarray, sizes: np.ndarray) -> bool:
    """Tell whether shares differ by chance at most, or by too little to be worth a word."""
    total, known = sizes.sum(), sizes > 0
    share = hits.sum() / total
    if min(hits.sum(), total - hits.sum()) < _LEAST_UNEVEN:
        return True
    shares = hits[known] / sizes[known]
    deviation = (sizes[known] * (shares - share) ** 2).sum() / (share * (1 - share))
    return bool(deviation <= _CHI_SQUARED or np.ptp(shares) < min(share, 1 - share))


def find_longest(clipped: np.ndarray) -> Stretch | None:
    """Find the longest stretch of steps in a row for which something holds; None without any."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], clipped.astype(np.int8), [0]])))
    if not edges.size:
        return None
    starts, stops = edges[::2], edges[1::2]
    place = int(np.argmax(stops - starts))
    first, stop = int(starts[place]), int(stops[place])
    return Stretch(first, stop - 1, stop - first)


def medians_by_tenth(series: Series) -> np.ndarray:
    """Return the median norm of each tenth of the run, zeros left out; NaN without norms."""
    useful = series.has_gradient
    parts = (series.norms[part][useful[part]] for part in tenths_of(len(series.norms)))
    return np.array([middle(np.sort(part)) if part.size else np.nan for part in parts])


def middle(ordered: np.ndarray) -> float:
    """Return the norm of rank `ceil(n / 2)` of `n`: one that was measured, never an average."""
    return float(ordered[(len(ordered) - 1) // 2])


def drifts(series: Series) -> bool:
    """Tell whether the size of the norms changes over the run by more than chance.

    By the ranks of the norms in each tenth (Kruskal and Wallis), which need no law of the norms,
    and the ratio of the medians, as nobody asks for a drift that is certain and small.
    """
    useful = series.has_gradient
    tenth = np.concatenate(
        [np.full(len(part), place) for place, part in enumerate(tenths_of(len(useful)))]
    )[useful]
    norms = series.norms[useful]
    medians = medians_by_tenth(series)
    medians = medians[~np.isnan(medians)]
    if medians.size < 2 or np.ptp(np.log(medians)) < np.log(_DRIFT):
        return False
    _, place, count = np.unique(norms, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    sizes = np.bincount(tenth, minlength=TENTHS).astype(float)
    sums = np.bincount(tenth, ranks, minlength=TENTHS)
    known, total = sizes > 0, float(len(norms))
    means = sums[known] / sizes[known]
    spread = (sizes[known] * (means - (total + 1) / 2) ** 2).sum()
    variance = ((ranks - (total + 1) / 2) ** 2).sum() / (total - 1)
    return bool(spread / variance > _CHI_SQUARED)
