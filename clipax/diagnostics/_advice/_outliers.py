"""What stands out of a run's norms, in words: the tail index, and spikes."""

from __future__ import annotations

import math

import numpy as np

from clipax._statistics import _histogram
from clipax.diagnostics._advice import _words
from clipax.diagnostics._advice._distribution import Distribution, Exact
from clipax.diagnostics._advice._evidence import Evidence
from clipax.diagnostics._advice._series import Series, medians_by_tenth, middle, tenths_of
from clipax.diagnostics._advice._tail import Tail, estimate_tail
from clipax.diagnostics._advice._words import number, percent

__all__ = ["SPIKE", "describe_spikes", "describe_tail", "measure_tail"]

_LEAST_TAIL = 25
"""Norms in the tail that give an index with a standard deviation of a fifth."""
_LEAST_BEYOND = 10
"""Norms that stand out of the bin in which the tail begins, for an index from bins."""
_LIGHT = 2.0
"""The ratio of the largest norm to the quantile where the tail begins, below which it is light."""
SPIKE = 10.0
"""A spike, in units of the median."""
_CLASSES = (
    (1.0, "heavy (no mean): a clip is needed"),
    (2.0, "heavy (no variance): without a clip, rare steps rule"),
    (4.0, "a variance, but outliers that no Gaussian has"),
    (np.inf, "light"),
)


def measure_tail(evidence: Evidence, drift: bool) -> Tail | None:
    """Estimate the tail index; None with too few norms.

    Of norms over the median of their tenth where the run drifts, and of their block where there are
    several: a mixture of scales has a heavy tail of its own.
    """
    norms = evidence.norms
    if norms is None or norms.total * _histogram.TAIL_FRACTION < _LEAST_TAIL:
        return None
    if drift and evidence.series is not None:
        norms = Exact(np.sort(np.concatenate(_relative(evidence.series))))
    if evidence.blocks:
        parts = [block.bins() for _, block in evidence.blocks if block.total]
        shifted = [
            (bins - bins[np.searchsorted(np.cumsum(counts), (counts.sum() + 1) // 2)], counts)
            for bins, counts in parts
        ]
        every = np.concatenate([bins for bins, _ in shifted])
        bins, inverse = np.unique(every, return_inverse=True)
        counts = np.bincount(inverse, np.concatenate([counts for _, counts in shifted]))
        return estimate_tail(bins, counts)
    return estimate_tail(*norms.bins())


def _relative(series: Series) -> list[np.ndarray]:
    """Return the norms over the median of their tenth of the run, zeros left out."""
    useful = series.has_gradient
    parts = [series.norms[part][useful[part]] for part in tenths_of(len(series.norms))]
    with np.errstate(over="ignore"):
        found = [part / middle(np.sort(part)) for part in parts if part.size]
    return [np.clip(part, np.finfo(float).tiny, np.finfo(float).max) for part in found]


def describe_tail(evidence: Evidence, tail: Tail | None, drift: bool) -> list[str]:
    """Say what the tail index means, with its uncertainty."""
    norms = evidence.norms
    if norms is None:
        return []
    if tail is None:
        needed = round(_LEAST_TAIL / _histogram.TAIL_FRACTION)
        return [f"Too few norms for a tail index: it takes {needed:,}, there are {norms.total:,}."]
    if tail.norms < _LEAST_BEYOND or math.isinf(tail.alpha):
        return [_describe_no_tail(norms, tail)]
    for bound, text in _CLASSES:
        if tail.alpha < bound:
            sure = (tail.high < bound) and (tail.low >= _below(bound))
            relative = " of the norms over the median of their tenth" if drift else ""
            relative = (
                " of the norms over the median of their block" if evidence.blocks else relative
            )
            return [
                f"Tail index{relative} about {tail.alpha:.2g} (95 %: {tail.low:.2g} to "
                f"{tail.high:.2g}, from {tail.norms:,} norms): {'' if sure else 'probably '}{text}."
            ]
    raise AssertionError("The last class has no bound.")


def _below(bound: float) -> float:
    return max((other for other, _ in _CLASSES if other < bound), default=0.0)


def _describe_no_tail(norms: Distribution, tail: Tail) -> str:
    begin, largest = norms.quantile(1 - _histogram.TAIL_FRACTION), norms.quantile(1.0)
    if largest / _LIGHT < begin:
        share = percent(_histogram.TAIL_FRACTION)
        ratio = f"{largest / begin:.3g}"
        than = "practically equal" if ratio == "1" else f"within a factor {ratio} of each other"
        return f"The tail is light: the largest {share} of the norms are {than}."
    return (
        f"No tail index: only {tail.norms:,} of {norms.total:,} norms stand out of the others "
        f"(the largest is {number(largest)})."
    )


def describe_spikes(evidence: Evidence, drift: bool) -> list[str]:
    """Say how many norms are far above the median, and when."""
    norms, series = evidence.norms, evidence.series
    if norms is None or not norms.total:
        return []
    of = f"the median ({number(norms.quantile(0.5))})"
    where, at_most = "", 0
    if series is not None:
        reference = np.full(len(series.norms), norms.quantile(0.5))
        if drift:
            of = "the median of their tenth of the run"
            for part, median in zip(
                tenths_of(len(series.norms)), medians_by_tenth(series), strict=True
            ):
                reference[part] = median
        # Divided, not multiplied: nothing overflows.
        far = series.has_gradient & (series.norms / SPIKE > reference)
        spikes = int(far.sum())
        where = f": {series.where(far)}" if spikes else ""
    else:
        blocks = evidence.blocks or (("", norms),)
        of = "the median of their block" if evidence.blocks else of
        bounds = [
            block.count_above(SPIKE * block.quantile(0.5)) for _, block in blocks if block.total
        ]
        spikes, at_most = (sum(bound) for bound in zip(*bounds, strict=True))
    if not (spikes or at_most):
        return []
    count = f"{spikes:,}" if at_most in (0, spikes) else f"{spikes:,} to {at_most:,}"
    count = count.replace("0 to", "up to") if not spikes else count
    verb = _words.verb(max(spikes, at_most), "is")
    return [
        f"Spikes: {count} of {norms.total:,} norms {verb} more than {SPIKE:g} times {of}{where}."
    ]
