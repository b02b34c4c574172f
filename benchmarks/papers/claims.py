"""A reference figure beside what was measured, and whether it holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Claim", "Number", "at_most", "close", "exact", "factor", "within"]

Number = int | float


@dataclass(frozen=True)
class Claim:
    """A reference figure beside its measurement.

    Attributes:
      name: What it is a figure of; unique within a paper.
      reference: The figure to reproduce, or the ends of a range of it.
      measured: What was measured here.
      allowed: How far the two may lie apart, in words and numbers.
      holds: Whether they lie no further apart.
    """

    name: str
    reference: Number | tuple[Number, Number]
    measured: Number
    allowed: str
    holds: bool


# Every test is written so that NaN fails it.


def exact(name: str, reference: int, measured: object) -> Claim:
    """A count that must agree to the last digit."""
    number = int(np.asarray(measured))
    return Claim(name, reference, number, "exact", number == reference)


def close(
    name: str, reference: float, measured: object, relative: float, absolute: float = 0.0
) -> Claim:
    """A figure up to a relative deviation, or an absolute one where that is larger."""
    number = float(np.asarray(measured))
    words = [f"{relative:g} rel." if relative < 1e-4 else f"{100 * relative:g} %"] * (relative > 0)
    words += [f"{absolute:g}"] * (absolute > 0)
    holds = abs(number - reference) <= max(relative * abs(reference), absolute)
    return Claim(name, reference, number, f"+-{' or '.join(words)}", bool(holds))


def factor(name: str, reference: float, measured: object, allowed: float) -> Claim:
    """A positive figure up to a factor either way."""
    number = float(np.asarray(measured))
    holds = reference / allowed <= number <= reference * allowed
    return Claim(name, reference, number, f"factor {allowed:g}", bool(holds))


def at_most(name: str, limit: Number, measured: object) -> Claim:
    """A figure with an upper bound; an integer is shown as one."""
    number = np.asarray(measured).item()
    return Claim(name, limit, number, "at most", bool(number <= limit))


def within(name: str, reference: tuple[Number, Number], measured: object) -> Claim:
    """A figure between two others."""
    number = np.asarray(measured).item()
    holds = reference[0] <= number <= reference[1]
    return Claim(name, reference, number, "in the range", bool(holds))
