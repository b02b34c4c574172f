"""A reference figure beside what was measured, and whether it holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

__all__ = [
    "Claim",
    "Interval",
    "Number",
    "Source",
    "Verdict",
    "at_most",
    "close",
    "exact",
    "factor",
    "within",
]

Number = int | float
Interval = tuple[float, float]
Source = Literal["paper", "derived", "ours"]
Verdict = Literal["holds", "open", "MISSED"]


@dataclass(frozen=True)
class Claim:
    """A reference figure beside its measurement.

    Attributes:
      name: What it is a figure of; unique within a paper.
      reference: The figure to reproduce, or the ends of a range of it.
      measured: What was measured here.
      allowed: How far the two may lie apart, in words and numbers.
      verdict: Whether they lie no further apart; "open" where the interval has ends on both sides.
      source: Who says so: the paper, in its text or a figure; a number computed from the paper's
        formulas without clipax; or nobody but us.
      interval: 95 % interval of the measurement over seeds; None where nothing is random, or where
        the allowed deviation has room for it.
    """

    name: str
    reference: Number | tuple[Number, Number]
    measured: Number
    allowed: str
    verdict: Verdict
    source: Source = "derived"
    interval: Interval | None = None

    def __post_init__(self) -> None:
        if self.verdict not in get_args(Verdict) or self.source not in get_args(Source):
            raise ValueError(
                f"{self.name!r} has verdict {self.verdict!r} and source {self.source!r}; "
                f"they must be of {get_args(Verdict)} and {get_args(Source)}."
            )

    @property
    def holds(self) -> bool:
        """Whether the figure holds, and no interval leaves that open."""
        return self.verdict == "holds"


# Every test is written so that NaN fails it.


def exact(name: str, reference: int, measured: object, *, source: Source = "derived") -> Claim:
    """A count that must agree to the last digit."""
    number = int(np.asarray(measured))
    verdict: Verdict = "holds" if number == reference else "MISSED"
    return Claim(name, reference, number, "exact", verdict, source)


def close(
    name: str,
    reference: float,
    measured: object,
    relative: float,
    absolute: float = 0.0,
    *,
    source: Source = "derived",
    interval: Interval | None = None,
) -> Claim:
    """A figure up to a relative deviation, or an absolute one where that is larger."""
    words = [f"{relative:g} rel." if relative < 1e-4 else f"{100 * relative:g} %"] * (relative > 0)
    words += [f"{absolute:g}"] * (absolute > 0)
    room = max(relative * abs(reference), absolute)
    number = float(np.asarray(measured))
    verdict = _verdict(lambda x: abs(x - reference) <= room, reference, number, interval)
    allowed = f"+-{' or '.join(words)}"
    return Claim(name, reference, number, allowed, verdict, source, interval)


def factor(
    name: str,
    reference: float,
    measured: object,
    allowed: float,
    *,
    source: Source = "derived",
    interval: Interval | None = None,
) -> Claim:
    """A positive figure up to a factor either way."""
    number = float(np.asarray(measured))

    def right(x: float) -> bool:
        return reference / allowed <= x <= reference * allowed

    verdict = _verdict(right, reference, number, interval)
    return Claim(name, reference, number, f"factor {allowed:g}", verdict, source, interval)


def at_most(
    name: str,
    limit: Number,
    measured: object,
    *,
    source: Source = "derived",
    interval: Interval | None = None,
) -> Claim:
    """A figure with an upper bound; an integer is shown as one."""
    number = np.asarray(measured).item()
    verdict = _verdict(lambda x: x <= limit, -math.inf, number, interval)
    return Claim(name, limit, number, "at most", verdict, source, interval)


def within(
    name: str,
    reference: tuple[Number, Number],
    measured: object,
    *,
    source: Source = "derived",
    interval: Interval | None = None,
) -> Claim:
    """A figure between two others."""
    number = np.asarray(measured).item()
    inside = float(np.clip(number, *reference))
    verdict = _verdict(lambda x: reference[0] <= x <= reference[1], inside, number, interval)
    return Claim(name, reference, number, "in the range", verdict, source, interval)


def _verdict(
    right: Callable[[float], bool], middle: float, measured: float, interval: Interval | None
) -> Verdict:
    """Holds where all of the interval is right, missed where none of it is.

    What is right is an interval itself, and `middle` lies in it.
    """
    if interval is None or math.isnan(measured):
        return "holds" if right(measured) else "MISSED"
    low, high = interval
    if not low <= measured <= high:
        raise ValueError(f"The measurement {measured:g} lies outside of its interval {interval}.")
    if right(low) and right(high):
        return "holds"
    return "open" if right(low) or right(high) or low <= middle <= high else "MISSED"
