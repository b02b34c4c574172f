"""Advice on the clip of a run, from the norms of its gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from clipax import _validate
from clipax._statistics import _histogram
from clipax._statistics._histogram import HistogramState
from clipax._typing import Scalar
from clipax.diagnostics._evidence import Evidence, collect_evidence

__all__ = ["Advice", "advise"]

_LEAST_STEPS = 50
_LEAST_BEYOND = 5
"""Norms that a proposed quantile must have above it."""
_LEAST_TAIL = 25
"""Norms in the tail that give an index with a standard deviation of a fifth."""
_SPIKE = 10.0
"""A spike, in units of the median."""


@dataclass(frozen=True)
class Advice:
    """The result of `advise`; `str()` of it is the findings, a line each.

    Attributes:
      steps: Number of steps.
      nonfinite_count: Number of steps that were not finite.
      clip_fraction: Share of the finite steps that were clipped; None without a clip.
      tail_index: Estimate of the tail index of the norms; None where there are too few.
      quantiles: Norms by quantile; empty where there are too few.
      threshold: The proposed threshold; None where there are too few norms.
      findings: Sentences for a user.
    """

    steps: int
    nonfinite_count: int
    clip_fraction: float | None
    tail_index: float | None
    quantiles: Mapping[float, float]
    threshold: float | None
    findings: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.findings)


def advise(history_or_state: Any, *, quantile: Scalar = 0.9) -> Advice:
    """Advise on the clip of a run from its gradient norms, and propose a threshold.

    Call it outside of compiled code, as it reads arrays from the device.

    Args:
      history_or_state: The state of an optimizer in any nesting, best with
        `clipax.monitor_norms()` in front of the clip, as a clip remembers no norms. Or a sequence
        of norms, one a step; or of results of `clipax.metrics`.
      quantile: Which quantile of the norms to propose as a threshold, in (0, 1); default .9: one
        step in ten would be clipped.

    Returns:
      An `Advice`. The norms of several blocks in a state are pooled, as for a clip with the same
      threshold for each block.

    Raises:
      ValueError: `history_or_state` has no norms, a negative norm, or is the state of several runs.

    Notes:
      Change the learning rate with the threshold. A clipped step of plain SGD has the length
      `learning_rate * threshold`: where most steps are clipped, multiply the rate by the old
      threshold over the new one. Where a small share s is clipped, factors are at least 1 - s on
      average, and the rate without a clip is a start. Adam behind a clip divides a common factor
      of all steps out.

      There is no guess from too few norms: with fewer than 50 finite steps, or 5 norms above the
      quantile, there is no threshold, with fewer than 500 no tail index, and a finding says so.
      Quantiles are within 4.5 %.

    Example:
      >>> import numpy as np, optax, clipax
      >>> optimizer = optax.chain(clipax.monitor_norms(), clipax.clip_by_global_norm(1.0))
      >>> state = optimizer.init(np.zeros(2, np.float32))
      >>> for step in range(60):
      ...     gradient = np.array([0.0, 1.0 + step], np.float32)
      ...     _, state = optimizer.update(gradient, state)
      >>> advice = clipax.advise(state)
      >>> print(advice)
      98.3 % of 60 finite steps are clipped: the threshold sets the step length, and to change it \
is to change the learning rate.
      Too few norms for a tail index: it takes 500, there are 60.
      A threshold of 56.2 (quantile 0.9 of the norms) would clip about 10 % of the steps.
      Choose the learning rate anew with it: a clipped step of norm n shrinks by threshold/n, and \
where most are clipped, half the threshold takes twice the rate (in SGD; Adam divides it out).
      >>> round(advice.threshold, 1)
      56.2
      >>> print(clipax.advise([1.0, 2.0, float("nan")]))
      1 of 3 steps (33.3 %) not finite: look for the cause (learning rate, loss scale, data) first.
      2 finite steps are too few to judge by: it takes 50.
    """
    _validate.within("quantile", quantile, 0, 1, brackets="()")
    quantile = float(quantile)
    evidence = collect_evidence(history_or_state)
    finite = evidence.steps - evidence.nonfinite_count
    findings = [*_describe_clip(evidence), *_describe_nonfinite(evidence)]
    quantiles: dict[float, float] = {}
    tail, threshold = None, None
    histogram = evidence.histogram
    if histogram is None:
        findings.append(
            "The norms themselves are not remembered: put `clipax.monitor_norms()` in front of the "
            "clip for quantiles, tail index and a threshold."
        )
    elif (seen := min(finite, int(_histogram.total(histogram)))) < _LEAST_STEPS:
        findings.append(f"{seen:,} finite steps are too few to judge by: it takes {_LEAST_STEPS}.")
    else:
        shares = sorted({0.5, 0.9, 0.99, quantile})
        quantiles = {share: _read_quantile(histogram, share) for share in shares}
        tail, about = _describe_tail(histogram)
        findings += [
            *about,
            *_describe_spikes(histogram, quantiles[0.5]),
            *_describe_drift(evidence),
        ]
        threshold, about = _propose_threshold(evidence, histogram, quantile, quantiles[quantile])
        findings += about
    return Advice(
        evidence.steps,
        evidence.nonfinite_count,
        evidence.clip_fraction,
        tail,
        quantiles,
        threshold,
        tuple(findings),
    )


def _read_quantile(histogram: HistogramState, share: float) -> float:
    return float(_histogram.quantile(histogram, jnp.asarray(share, float)))


def _describe_clip(evidence: Evidence) -> list[str]:
    finite, fraction = evidence.steps - evidence.nonfinite_count, evidence.clip_fraction
    if fraction is None or not finite:
        return []
    if fraction == 0:
        return [f"Never clipped in {finite:,} finite steps: the threshold does nothing."]
    text = f"{_format_percent(fraction)} of {finite:,} finite steps are clipped"
    if fraction > 0.5:
        text += (
            ": the threshold sets the step length, and to change it is to change the learning rate"
        )
    return [f"{text}."]


def _describe_nonfinite(evidence: Evidence) -> list[str]:
    bad, steps = evidence.nonfinite_count, evidence.steps
    if not bad:
        return []
    text = f"{bad:,} of {steps:,} steps ({_format_percent(bad / steps)}) not finite"
    if bad / steps > 0.01:
        text += ": look for the cause (learning rate, loss scale, data) first"
    return [f"{text}."]


def _describe_tail(histogram: HistogramState) -> tuple[float | None, list[str]]:
    norms = int(_histogram.total(histogram))
    needed = math.ceil(_LEAST_TAIL / _histogram.TAIL_FRACTION)
    if norms < needed:
        text = f"Too few norms for a tail index: it takes {needed:,}, there are {norms:,}."
        return None, [text]
    index = float(_histogram.tail_index(histogram))
    if index < 1:
        text = "heavy (no mean): a clip is needed"
    elif index < 2:
        text = "heavy (no variance): without a clip, rare steps rule"
    elif index < 4:
        text = "a variance, but outliers that no Gaussian has"
    else:
        text = "light"
    return index, [f"Tail index about {index:.2g}: {text}."]


def _describe_spikes(histogram: HistogramState, median: float) -> list[str]:
    spikes = int(_histogram.count_above(histogram, jnp.asarray(_SPIKE * median, float)))
    if not spikes:
        return []
    norms = int(_histogram.total(histogram))
    largest = _read_quantile(histogram, 1.0)
    return [
        f"Spikes: {spikes:,} of {norms:,} norms are more than {_SPIKE:g} times the median "
        f"({_format_number(median)}), the largest is about {_format_number(largest)}."
    ]


def _describe_drift(evidence: Evidence) -> list[str]:
    drift = evidence.drift
    if drift is None or 0.5 < drift < 2:
        return []
    return [
        f"The scale drifts: the median of the second half of the run is {drift:.2g} times that of "
        "the first. A threshold that follows (`thresholds.quantile`) suits better than a constant."
    ]


def _propose_threshold(
    evidence: Evidence, histogram: HistogramState, quantile: float, value: float
) -> tuple[float | None, list[str]]:
    norms = int(_histogram.total(histogram))
    if not evidence.is_raw:
        return None, [
            "The norms watched are those behind a clip: put `clipax.monitor_norms()` in front of "
            "it for a threshold."
        ]
    # Rounding: .1 * 50 is below 5 in float64.
    if round(norms * (1 - quantile), 6) < _LEAST_BEYOND:
        return None, [f"Too few norms for their quantile {quantile:g}: there are {norms:,}."]
    return value, [
        f"A threshold of {_format_number(value)} (quantile {quantile:g} of the norms) would clip "
        f"about {_format_percent(1 - quantile)} of the steps.",
        "Choose the learning rate anew with it: a clipped step of norm n shrinks by threshold/n, "
        "and where most are clipped, half the threshold takes twice the rate (in SGD; Adam divides "
        "it out).",
    ]


def _format_percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _format_number(value: float) -> str:
    return f"{value:.3g}"
