"""Says in plain words what the norms of a run say about its clip."""

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
from clipax.diagnostics._evidence import Evidence, evidence_of

__all__ = ["Advice", "advise"]

_LEAST_STEPS = 50
_LEAST_BEYOND = 5
"""Norms above a quantile, for it to be one that can be proposed."""
_LEAST_TAIL = 25
"""Norms in the tail, for an index with a standard deviation of a fifth."""
_SPIKE = 10.0
"""Times the median."""


@dataclass(frozen=True)
class Advice:
    """What `advise` found; `str()` of it is the findings, a line each.

    Attributes:
      steps: Number of steps.
      nonfinite_count: How many of them were not finite.
      clip_fraction: Share of the finite steps that were clipped; None without a clip.
      tail_index: Estimate of the tail index of the norms; None where there are too few.
      quantiles: Norms by quantile; empty where there are too few.
      threshold: The proposed threshold; None where there is none to propose.
      findings: What there is to say, in plain words.
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
    """Says in plain words what a run's norms say about its clip, and proposes a threshold.

    Call it now and then outside of compiled code: it reads arrays off the device.

    The learning rate has to change with the threshold, as a step whose norm n exceeds the
    threshold c shrinks by the factor c/n, in plain SGD to the length `learning_rate * c`. Where
    most steps are clipped, that product is the length of a step: to keep it, multiply the rate by
    the old threshold over the new one. Where a small share s is clipped, factors are at least 1 - s
    on average, and a rate that suits without a clip is a start. Behind a clip, Adam divides by the
    gradients' scale: a factor that all steps have in common does not matter to it.

    Args:
      history_or_state: The state of an optimizer in any nesting, best with
        `clipax.monitor_norms()` in front of the clip, as the telemetry of a clip alone does not
        remember norms. Or a sequence of norms, one a step; or of what `clipax.metrics` returned.
      quantile: Which quantile of the norms to propose as a threshold, in (0, 1); default .9: one
        step in ten would be clipped.

    Returns:
      An `Advice`. Of a state that measures several blocks the norms of all blocks are taken
      together, as for a clip with one threshold for each of them.

    Guarantees:
      Nothing is guessed from too little: with fewer than 50 finite steps, or 5 norms above the
      quantile, there is no threshold, with fewer than 500 no tail index, and a finding says so.
      Quantiles are within 4.5 %.

    Raises:
      TypeError: `quantile` is no number.
      ValueError: `quantile` outside (0, 1); nothing to judge in `history_or_state`, a negative
        norm, or a state of several runs.

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
    evidence = evidence_of(history_or_state)
    finite = evidence.steps - evidence.nonfinite_count
    findings = [*_about_clip(evidence), *_about_nonfinite(evidence)]
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
        wanted = sorted({0.5, 0.9, 0.99, quantile})
        quantiles = {one: _quantile(histogram, one) for one in wanted}
        tail, about = _about_tail(histogram)
        findings += [*about, *_about_spikes(histogram, quantiles[0.5]), *_about_drift(evidence)]
        threshold, about = _about_threshold(evidence, histogram, quantile, quantiles[quantile])
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


def _quantile(histogram: HistogramState, share: float) -> float:
    return float(_histogram.quantile(histogram, jnp.asarray(share, float)))


def _about_clip(evidence: Evidence) -> list[str]:
    finite, fraction = evidence.steps - evidence.nonfinite_count, evidence.clip_fraction
    if fraction is None or not finite:
        return []
    if fraction == 0:
        return [f"Never clipped in {finite:,} finite steps: the threshold does nothing."]
    text = f"{_percent(fraction)} of {finite:,} finite steps are clipped"
    if fraction > 0.5:
        text += (
            ": the threshold sets the step length, and to change it is to change the learning rate"
        )
    return [f"{text}."]


def _about_nonfinite(evidence: Evidence) -> list[str]:
    bad, steps = evidence.nonfinite_count, evidence.steps
    if not bad:
        return []
    text = f"{bad:,} of {steps:,} steps ({_percent(bad / steps)}) not finite"
    if bad / steps > 0.01:
        text += ": look for the cause (learning rate, loss scale, data) first"
    return [f"{text}."]


def _about_tail(histogram: HistogramState) -> tuple[float | None, list[str]]:
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


def _about_spikes(histogram: HistogramState, median: float) -> list[str]:
    spikes = int(_histogram.above(histogram, jnp.asarray(_SPIKE * median, float)))
    if not spikes:
        return []
    norms = int(_histogram.total(histogram))
    largest = _quantile(histogram, 1.0)
    return [
        f"Spikes: {spikes:,} of {norms:,} norms are more than {_SPIKE:g} times the median "
        f"({_number(median)}), the largest is about {_number(largest)}."
    ]


def _about_drift(evidence: Evidence) -> list[str]:
    drift = evidence.drift
    if drift is None or 0.5 < drift < 2:
        return []
    return [
        f"The scale drifts: the median of the second half of the run is {drift:.2g} times that of "
        "the first. A threshold that follows (`thresholds.quantile`) suits better than a constant."
    ]


def _about_threshold(
    evidence: Evidence, histogram: HistogramState, quantile: float, value: float
) -> tuple[float | None, list[str]]:
    norms = int(_histogram.total(histogram))
    if not evidence.is_raw:
        return None, [
            "The norms watched are those behind a clip: put `clipax.monitor_norms()` in front of "
            "it for a threshold."
        ]
    # Rounded: .1 * 50 must not fall short of 5.
    if round(norms * (1 - quantile), 6) < _LEAST_BEYOND:
        return None, [f"Too few norms for their quantile {quantile:g}: there are {norms:,}."]
    return value, [
        f"A threshold of {_number(value)} (quantile {quantile:g} of the norms) would clip about "
        f"{_percent(1 - quantile)} of the steps.",
        "Choose the learning rate anew with it: a clipped step of norm n shrinks by threshold/n, "
        "and where most are clipped, half the threshold takes twice the rate (in SGD; Adam divides "
        "it out).",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _number(value: float) -> str:
    return f"{value:.3g}"
