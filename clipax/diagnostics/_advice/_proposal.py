"""Which threshold to propose, from what it would have clipped, in words."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clipax.diagnostics._advice._clipping import (
    count_norms,
    describe_shares_of_blocks,
    describe_tenths,
)
from clipax.diagnostics._advice._distribution import BEYOND, Binned, Candidate, Exact
from clipax.diagnostics._advice._evidence import Evidence
from clipax.diagnostics._advice._series import judge, tenths_of
from clipax.diagnostics._advice._words import number, percent

__all__ = ["Proposal", "propose"]

_LEAST_BEYOND = 5
"""Norms that a proposed threshold must have above it."""
_NEAR = 0.5
"""How far the counted share may be from the one asked for, in units of the smaller part."""
_BEYOND = (
    f"The norms are beyond the bins of a state (above {number(BEYOND)}): log them for a threshold."
)


class Proposal(NamedTuple):
    """A proposed threshold.

    Attributes:
      threshold: It; None where there is none to propose.
      share: The share of the finite steps that it would clip, counted; None likewise.
      findings: What to say about it.
    """

    threshold: float | None
    share: float | None
    findings: list[str]


def propose(evidence: Evidence, quantile: float) -> Proposal:
    """Propose the threshold that clips the share asked for of the steps that have a gradient."""
    norms = evidence.norms
    if norms is None:
        return Proposal(None, None, [])
    if not evidence.is_raw:
        return _decline(
            "The norms watched are those behind a clip: put `clipax.monitor_norms()` in front of "
            "it for a threshold."
        )
    asked = 1 - quantile
    # Rounding: .1 * 50 is below 5 in float64.
    if round(norms.total * asked, 6) < _LEAST_BEYOND:
        return _decline(
            f"Too few norms for their quantile {quantile:g}: there are {norms.total:,}."
        )
    found = norms.candidate(asked)
    if found is None:
        return _decline(_describe_equal(evidence, asked))
    if isinstance(norms, Binned) and norms.counts[-1] > found.above:
        return _decline(_BEYOND)
    if abs(found.above / norms.total - asked) > _NEAR * min(asked, quantile):
        return _decline(_describe_nearest(evidence, found, asked))
    counted = count_norms(evidence)
    share = found.above / counted
    text = (
        f"A threshold of {found.text} would clip about {percent(share)} of the "
        f"{'norms' if evidence.blocks else 'steps'} ({found.above:,} of {counted:,})"
    )
    of_others = percent(found.above / norms.total)
    if of_others != percent(share):  # norms of zero are steps, and no threshold clips them
        text += f", {of_others} of those above zero"
    text += describe_shares_of_blocks(evidence, found.value)
    findings = [text + "." + _describe_when(evidence, found.value, quantile)]
    return Proposal(found.value, share, [*findings, _describe_rate(evidence)])


def _decline(text: str) -> Proposal:
    return Proposal(None, None, [text])


def _describe_equal(evidence: Evidence, asked: float) -> str:
    norms = evidence.norms
    assert norms is not None
    if isinstance(norms, Binned):
        low, high = norms.bounds()
        if high == np.inf:
            return _BEYOND
        text = f"All {norms.total:,} norms lie between {number(low)} and {number(high)}, in one bin"
    else:
        text = f"All {norms.total:,} norms are equal ({number(norms.quantile(1.0))})"
    return (
        f"{text}: no threshold clips about {percent(asked)} of such steps. One below them scales "
        "all alike, one above them does nothing."
    )


def _describe_nearest(evidence: Evidence, found: Candidate, asked: float) -> str:
    norms = evidence.norms
    assert norms is not None
    if isinstance(norms, Binned):
        return (
            "The bins of a state are too coarse for a threshold that clips about "
            f"{percent(asked)}: the nearest, {found.text}, clips "
            f"{percent(found.above / count_norms(evidence))} ({found.above:,} of "
            f"{count_norms(evidence):,}). Log the norms for a better one."
        )
    return (
        f"No threshold clips about {percent(asked)} of these steps, as many norms are equal: the "
        f"nearest, {found.text}, clips {percent(found.above / count_norms(evidence))} "
        f"({found.above:,} of {count_norms(evidence):,})."
    )


def _describe_when(evidence: Evidence, threshold: float, quantile: float) -> str:
    """Say how the share differs over the run, and what suits the steps to come."""
    series = evidence.series
    if series is None:
        return ""
    clipping = judge(series, series.norms > threshold)
    if clipping.is_even:
        return ""
    text = f" Not evenly: {describe_tenths(evidence, clipping)}."
    part = np.concatenate(tenths_of(len(series.norms))[5:])
    later = Exact(np.sort(series.norms[part][series.has_gradient[part]]))
    if round(later.total * (1 - quantile), 6) < _LEAST_BEYOND:
        return text
    found = later.candidate(1 - quantile)
    finite = int(series.is_finite[part].sum())
    if found is None or abs(found.above / later.total - (1 - quantile)) > _NEAR * (1 - quantile):
        return text
    where = series.between(part[0], part[-1])
    return (
        f"{text} Of the second half alone ({where}) {found.text} clips "
        f"{percent(found.above / finite)}: take that for steps like those."
    )


def _describe_rate(evidence: Evidence) -> str:
    """Say how the learning rate goes with a threshold."""
    if evidence.divides:
        return (
            "The learning rate can stay: the optimizer behind the clip divides by the size of the "
            "gradients, and a factor that all steps share cancels."
        )
    return (
        "Under SGD a clipped step has the length rate * threshold: where most are clipped, half "
        "the threshold takes twice the learning rate. Adam and its kin cancel a factor that all "
        "steps share: there the rate can stay."
    )
