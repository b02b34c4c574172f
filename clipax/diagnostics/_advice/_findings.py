"""What a run's norms say about it, in words: each number counted, each with its steps."""

from __future__ import annotations

import numpy as np

from clipax._statistics import _histogram
from clipax.diagnostics._advice import _words
from clipax.diagnostics._advice._distribution import Binned, Distribution, Exact, shorten
from clipax.diagnostics._advice._evidence import Evidence
from clipax.diagnostics._advice._series import Series, medians_by_tenth, tenths_of
from clipax.diagnostics._advice._words import number, percent

__all__ = [
    "describe_blocks",
    "describe_drift",
    "describe_nonfinite",
    "describe_norms",
    "describe_steps",
    "describe_zeros",
]

_APART = 10.0
"""The ratio of medians from which on blocks differ in size."""
_PILE = 0.1
"""Share of norms equal to the largest from which on they look like norms behind a clip."""
_LEAST_KINDS = 20
"""Different norms below the largest; of few values, many equal the largest anyway."""
_GAP = 5
"""A gap in the log, in units of its spacing."""


def describe_steps(evidence: Evidence) -> list[str]:
    """Say which steps the findings hold for, and which rows of the log are left out."""
    series = evidence.series
    if series is None:
        kept = evidence.norms is not None and evidence.norms.total > 0
        order = ", counted by size: when they came is not remembered, a drift does not show"
        said = [f"{evidence.steps:,} steps so far{order if kept else ''}."]
        if evidence.skipped:
            said.append(
                f"A guard skipped {_words.count(evidence.skipped, 'finite step')}: left out."
            )
        return said
    said = []
    if series.skipped:
        said.append(f"A guard skipped {_words.count(series.skipped, 'finite step')}: left out.")
    if evidence.steps:
        text = f"{_words.count(evidence.steps, 'norm')}, {series.between(0, -1)}"
        text += _describe_spacing(series)
        if series.is_largest:
            text += "; each is the largest of several blocks"
        said.append(f"{text}.")
    if (gaps := series.missing.size) > 0:
        word = "step" if series.has_steps else "row"
        where = _words.places(series.missing, word)
        what = _words.verb(gaps, "an evaluation or an empty cell", "evaluations or empty cells")
        said.append(
            f"{gaps:,} of {series.rows:,} rows {_words.verb(gaps, 'has', 'have')} no norm "
            f"({where}): {what}, left out."
        )
    if series.repeated:
        said.append(
            f"{_words.count(series.repeated, 'row')} {_words.verb(series.repeated, 'repeats')} a "
            "step: of each step the last row counts."
        )
    if not series.was_ordered:
        said.append("The rows were not in the order of their steps: they are sorted by step.")
    return said


def _describe_spacing(series: Series) -> str:
    """Say how many steps lie between two norms, and where the largest gap is."""
    spacing, gaps = series.spacing, np.diff(series.steps)
    if not series.has_steps or not gaps.size:
        return ""
    text = ""
    if spacing > 1:
        about = "" if np.ptp(gaps) == 0 else "about "
        text = f", logged {about}every {spacing:,g} steps: what lies between is not seen"
    if gaps.max() >= _GAP * spacing:
        place = int(np.argmax(gaps))
        text += f"; nothing between {_words.places(series.steps[place : place + 2], series.word)}"
    return text


def describe_nonfinite(evidence: Evidence) -> list[str]:
    """Say how many steps were not finite, and which."""
    bad, steps, series = evidence.nonfinite, evidence.steps, evidence.series
    said = []
    if bad:
        where = ""
        if series is not None:
            where = f" ({series.where(~series.is_finite)})"
        text = f"{bad:,} of {steps:,} steps ({percent(bad / steps)}) not finite{where}"
        if bad / steps > 0.01:
            text += ": look for the cause (learning rate, loss scale, data) first"
        said.append(f"{text}.")
    if series is not None and (series.counted_nonfinite or 0) > bad:
        said.append(
            f"The run's own counter, `nonfinite_count`, has {series.counted_nonfinite:,}: the "
            "others lie between or before the rows."
        )
    return said


def describe_zeros(evidence: Evidence) -> list[str]:
    """Say how many norms are zero, and that they count as steps only."""
    zeros = evidence.zeros
    if not zeros:
        return []
    if evidence.series is None:
        total = zeros + (evidence.norms.total if evidence.norms is not None else 0)
        what = f"0 (or below {number(float(np.exp2(-64)))})"
    else:
        total, what = evidence.finite, "0"
    text = (
        f"{zeros:,} of {total:,} norms {_words.verb(zeros, 'is')} {what}, {percent(zeros / total)}"
    )
    if zeros == total:
        return [f"{text}: no step has a gradient."]
    return [
        f"{text}: no gradient (a frozen layer, an empty batch?). Median, quantiles, spikes and "
        "tail are those of the others."
    ]


def describe_norms(evidence: Evidence, quantiles: dict[float, float]) -> list[str]:
    """Say where most of the norms lie, and where they pile up."""
    norms = evidence.norms
    if norms is None or not quantiles:
        return []
    largest = norms.quantile(1.0)
    where = ""
    if (series := evidence.series) is not None:
        place = int(np.argmax(np.where(series.has_gradient, series.norms, 0)))
        where = f" ({series.between(place, place)})"
    elif isinstance(norms, Binned):
        where = " or more" if norms.overflows else ""
        largest *= _histogram.PRECISION
    bound = "" if evidence.series is not None or where else "below "
    median, most, nearly_all = (_say(norms, quantiles[share]) for share in (0.5, 0.9, 0.99))
    text = (
        f"Norms: median {median}, 90 % up to {most}, 99 % up to {nearly_all}, the largest "
        f"{bound}{_say(norms, largest)}{where}."
    )
    if evidence.series is None:
        text += " They are read from bins, within 4.5 %."
    return [text, *_describe_pile(norms)]


def _say(norms: Distribution, value: float) -> str:
    """Write a quantile with three digits, or with so many that as many norms lie up to it."""
    for digits in range(3, 10):
        short = shorten(value, digits)
        # Norms in float32 lie beside the decimal number that they are written as.
        (above, _), (found, _) = (norms.count_above(one * (1 + 1e-6)) for one in (value, short))
        if abs(found - above) <= 0.01 * norms.total:
            break
    return f"{short:.{max(digits, 6)}g}"


def _describe_pile(norms: Distribution) -> list[str]:
    """Say where many norms equal the largest: such a log was written behind a clip."""
    if not isinstance(norms, Exact):
        return []
    largest = float(norms.ordered[-1])
    equal = norms.total - int(np.searchsorted(norms.ordered, largest * (1 - 1e-4)))
    others = np.unique(norms.ordered[: norms.total - equal]).size
    if equal < _PILE * norms.total or others < _LEAST_KINDS:
        return []
    return [
        f"{equal:,} of {norms.total:,} norms equal the largest: if they are logged behind a clip, "
        "log them in front of it."
    ]


def describe_drift(evidence: Evidence) -> list[str]:
    """Say how the size of the norms changes over the run, by tenths."""
    series = evidence.series
    if series is None:
        return []
    medians = ", ".join(
        "-" if np.isnan(median) else number(median) for median in medians_by_tenth(series)
    )
    parts = tenths_of(len(series.steps))
    first, last = (series.between(part[0], part[-1]) for part in (parts[0], parts[-1]))
    return [
        f"The norms drift: their median by tenth of the run is {medians} (the first tenth: "
        f"{first}, the last: {last}). A threshold that follows (`clip_by_zscore`, "
        "`clip_by_percentile`) suits better than a constant."
    ]


def describe_blocks(evidence: Evidence) -> list[str]:
    """Say where blocks differ so much in size that one threshold does not suit them."""
    medians = [(block.quantile(0.5), name) for name, block in evidence.blocks if block.total]
    if len(medians) < 2 or max(medians)[0] / min(medians)[0] < _APART:
        return []
    (least, smallest), (most, largest) = min(medians), max(medians)
    return [
        f"The blocks differ in size: their medians lie between {number(least)} (`{smallest}`) "
        f"and {number(most)} (`{largest}`). One threshold for all does not suit them; "
        "`clip_by_ema` has one for each."
    ]
