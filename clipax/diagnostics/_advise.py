"""Advice on the clip of a run, from the norms of its gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from os import PathLike
from typing import Any

import optax

from clipax import _validate
from clipax._typing import Scalar
from clipax.diagnostics._advice import _clipping, _findings, _outliers, _words
from clipax.diagnostics._advice._evidence import Evidence, collect_evidence
from clipax.diagnostics._advice._proposal import Proposal, propose
from clipax.diagnostics._advice._replay import Replay, candidates, replay
from clipax.diagnostics._advice._series import LEAST_STEPS, Series, drifts

__all__ = ["Advice", "advise"]


@dataclass(frozen=True)
class Advice:
    """The result of `advise`; `str()` of it is the findings, a line each.

    Attributes:
      steps: Number of steps, finite or not; where rows were logged, those with a norm.
      nonfinite_count: Number of steps that were not finite.
      zero_count: Number of norms that are zero.
      missing_count: Number of rows without a norm.
      clip_fraction: Share of the finite steps that were clipped: the mean over clips and, in a
        state, over blocks. Without a clip in the run, of the `threshold` given, else None.
      tail_index: Estimate of the tail index of the norms; None where there are too few, infinite
        where no norm stands out.
      tail_interval: Where the index lies with 95 %; None without an estimate.
      quantiles: Norms by quantile, those of zero left out; empty where there are too few.
      threshold: The proposed threshold; None where there is none to propose.
      threshold_share: Share of the finite steps that it would clip, counted.
      findings: Sentences for a user.
      groups: The advice on each group of parameters by name, where there are several. Then the
        counts are of the group with most, and what differs between groups is None.
      series: The norms in the order of their steps, for `replay`; None where that is not known.
    """

    steps: int
    nonfinite_count: int
    zero_count: int
    missing_count: int
    clip_fraction: float | None
    tail_index: float | None
    tail_interval: tuple[float, float] | None
    quantiles: Mapping[float, float]
    threshold: float | None
    threshold_share: float | None
    findings: tuple[str, ...]
    groups: Mapping[str, Advice] = field(default_factory=dict)
    series: Series | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return "\n".join(self.findings)

    def replay(
        self, clips: Mapping[str, optax.GradientTransformation] | None = None
    ) -> list[Replay]:
        """Replay the norms through clips, as gradients of one entry, step by step.

        Args:
          clips: Clips by name; None (default) for the proposed threshold, `clip_by_percentile`,
            `clip_by_zscore`, `clip_by_ema`, `clip_by_median` and `skip_spikes`, with their
            defaults.

        Returns:
          What each would have done: the share of the steps that it clips or skips, its smallest
          factor, the longest stretch without a step, and its threshold in each step.

        Raises:
          ValueError: The order of the norms is not known (of a state), or there are groups.
        """
        if self.series is None:
            raise ValueError(
                "`replay` takes norms in the order of their steps, of one group: a state has no "
                "order, and of several groups each has its own, in `groups`."
            )
        return replay(self.series, candidates(self.threshold) if clips is None else clips)

    def plot(self, path: str | PathLike[str] | None = None) -> Any:
        """Draw the norms, spikes and the thresholds of `replay`; it takes the extra `lab`.

        Args:
          path: File to write, in a format of matplotlib's; None (default) writes none.

        Returns:
          The `matplotlib.figure.Figure`.
        """
        # The picture needs matplotlib, which only the laboratory imports.
        return import_module("clipax.lab._advise.picture").draw(self, path)


def advise(
    history_or_state: Any,
    *,
    quantile: Scalar = 0.9,
    threshold: Scalar | None = None,
    column: str | None = None,
) -> Advice:
    """Advise on the clip of a run from its gradient norms, and propose a threshold.

    Every number in a finding is counted from what is given. Call it outside of compiled code, as it
    reads arrays from the device.

    Args:
      history_or_state: Norms of a run, or a state that remembers them:

        - a vector of norms, one a step: NaN and infinity are steps that were not finite, None is
          no entry;
        - the rows of a log, mappings such as `clipax.metrics` returns or a trainer writes (the
          `log_history` of a `trainer_state.json`), or a mapping or data frame of columns: norms
          are found as `grad_norm`, `train/grad_norm`, `gnorm` and the like, steps as `step`;
        - the state of an optimizer in any nesting, best with `clipax.monitor_norms()` in front of
          the clip, as a clip remembers no norms.
      quantile: Which quantile of the norms to propose as a threshold, in (0, 1); default .9: one
        step in ten would be clipped.
      threshold: A threshold to judge: which share of the steps it clips, in which tenths of the
        run, how many in a row. Positive; default None.
      column: The column of a log with the norms; None (default) to find it by its name.

    Returns:
      An `Advice`. The norms of several blocks in a state are pooled, as for a clip with the same
      threshold for each block; groups with states or columns of their own are judged one by one.

    Raises:
      ValueError: `history_or_state` has no norms, an entry that is no number, a negative norm, or
        is the state of several runs. The message says what was found, and what can be read.

    Notes:
      - Change the learning rate with the threshold under SGD: a clipped step has the length
        `learning_rate * threshold`. Where a small share s is clipped, factors are at least 1 - s on
        average, and the rate without a clip is a start. Adam behind a clip cancels a factor that
        all steps share.
      - There is no guess from too few norms: with fewer than 50 finite ones above zero, or 5 above
        the quantile, there is no threshold, with fewer than 500 no tail index, and a finding says
        so. Where no threshold clips about the share asked for (equal norms), it says that.
      - A state has no order of steps, and norms in bins: quantiles are within 4.5 %.

    Example:
      >>> import numpy as np, clipax
      >>> norms = np.exp(np.random.default_rng(0).normal(size=200))
      >>> norms[[50, 60]] = np.nan, 0.0
      >>> print(clipax.advise(norms, threshold=5.0))
      200 norms, steps 0 to 199.
      1 of 200 steps (0.5 %) not finite (step 50).
      1 of 199 norms is 0, 0.503 %: no gradient (a frozen layer, an empty batch?). Median, \
quantiles, spikes and tail are those of the others.
      The threshold 5 clips 4.52 % of 199 finite steps (9), at most 2 steps in a row (steps 47 to \
48); by tenth of the run 0, 0, 10.5, 15, 5, 0, 0, 0, 10, 5 %. It cuts few steps, step 79 the \
most: to 0.675 of its length.
      Norms: median 1.05, 90 % up to 3.75, 99 % up to 7.1, the largest 7.41 (step 79).
      Too few norms for a tail index: it takes 500, there are 198.
      A threshold of 3.75 would clip about 10.1 % of the steps (20 of 199).
      Under SGD a clipped step has the length rate * threshold: where most are clipped, half the \
threshold takes twice the learning rate. Adam and its kin cancel a factor that all steps share: \
there the rate can stay.
      >>> log = [{"step": 10, "grad_norm": 1.0}, {"step": 10, "eval_loss": 2.0}]
      >>> print(clipax.advise([*log, {"step": 20, "grad_norm": "nan"}]))
      2 norms, steps 10 to 20, logged every 10 steps: what lies between is not seen.
      1 of 3 rows has no norm (step 10): an evaluation or an empty cell, left out.
      1 of 2 steps (50 %) not finite (step 20): look for the cause (learning rate, loss scale, \
data) first.
      1 finite step is too few to judge by: it takes 50.
    """
    _validate.within("quantile", quantile, 0, 1, brackets="()")
    quantile = _validate.concrete("quantile", quantile)
    if threshold is not None:
        _validate.threshold("threshold", threshold)
        threshold = _validate.concrete("threshold", threshold)
    found = {
        evidence.name: _judge(evidence, quantile, threshold)
        for evidence in collect_evidence(history_or_state, column)
    }
    return _join(found) if len(found) > 1 else next(iter(found.values()))


def _judge(evidence: Evidence, quantile: float, threshold: float | None) -> Advice:
    """Judge the norms of one group."""
    findings = [
        *_findings.describe_steps(evidence),
        *_findings.describe_nonfinite(evidence),
        *_findings.describe_zeros(evidence),
        *_clipping.describe_clips(evidence),
    ]
    clips = evidence.clips
    fraction = sum(clip.share for clip in clips) / len(clips) if clips else None
    if threshold is not None:
        given, said = _clipping.describe_given(evidence, threshold)
        findings += said
        fraction = given if fraction is None else fraction
    norms, series = evidence.norms, evidence.series
    quantiles: dict[float, float] = {}
    tail, proposal = None, Proposal(None, None, [])
    if norms is None:
        findings.append(
            "The norms themselves are not remembered: put `clipax.monitor_norms()` in front of the "
            "clip for quantiles, tail index and a threshold."
        )
    elif norms.total < LEAST_STEPS:
        above = " with a norm above zero" if evidence.zeros else ""
        found = (
            f"{_words.count(norms.total, 'finite step')}{above} {_words.verb(norms.total, 'is')}"
        )
        findings.append(f"{found} too few to judge by: it takes {LEAST_STEPS}.")
    else:
        drift = series is not None and drifts(series)
        quantiles = {share: norms.quantile(share) for share in sorted({0.5, 0.9, 0.99, quantile})}
        tail = _outliers.measure_tail(evidence, drift)
        proposal = propose(evidence, quantile)
        if norms.candidate(0.5) is not None:  # not all equal
            findings += [
                *_findings.describe_norms(evidence, quantiles),
                *_findings.describe_blocks(evidence),
                *(_findings.describe_drift(evidence) if drift else []),
                *_outliers.describe_tail(evidence, tail, drift),
                *_outliers.describe_spikes(evidence, drift),
            ]
        findings += proposal.findings
    return Advice(
        steps=evidence.steps,
        nonfinite_count=evidence.nonfinite,
        zero_count=evidence.zeros,
        missing_count=0 if series is None else int(series.missing.size),
        clip_fraction=fraction,
        tail_index=None if tail is None else tail.alpha,
        tail_interval=None if tail is None else (tail.low, tail.high),
        quantiles=quantiles,
        threshold=proposal.threshold,
        threshold_share=proposal.share,
        findings=tuple(findings),
        series=series,
    )


def _join(groups: dict[str, Advice]) -> Advice:
    """Put the advice on several groups together: findings by name, no number for all of them."""
    parts = list(groups.values())
    fractions = [part.clip_fraction for part in parts if part.clip_fraction is not None]
    return Advice(
        steps=max(part.steps for part in parts),
        nonfinite_count=max(part.nonfinite_count for part in parts),
        zero_count=max(part.zero_count for part in parts),
        missing_count=max(part.missing_count for part in parts),
        clip_fraction=sum(fractions) / len(fractions) if fractions else None,
        tail_index=None,
        tail_interval=None,
        quantiles={},
        threshold=None,
        threshold_share=None,
        findings=tuple(
            f"`{name}`: {finding}" for name, part in groups.items() for finding in part.findings
        ),
        groups=groups,
    )
