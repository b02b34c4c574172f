"""Checks of the numbers that theorems take; they return decimals, which hold each exactly.

Typed as `Exact`, as functions keep the names of their arguments for them, which are floats.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from clipax import _validate

__all__ = [
    "Exact",
    "check_smoothness",
    "decay",
    "failure_probability",
    "order",
    "positive",
    "probability",
    "steps",
    "tail_index",
]

# A decimal.
Exact = Any


def positive(name: str, value: Any) -> Exact:
    """Return a positive and finite constant."""
    number = _validate.concrete(name, value)
    _validate.positive(name, number)
    return Decimal(number)


def check_smoothness(l0: Any, l1: Any) -> tuple[Exact, Exact]:
    """Return the two constants of (L0, L1)-smoothness."""
    return positive("l0", l0), positive("l1", l1)


def tail_index(value: Any) -> Exact:
    """Return `alpha`, the order up to which the noise has moments."""
    number = _validate.concrete("alpha", value)
    _validate.within("alpha", number, 1, 2, brackets="(]")
    return Decimal(number)


def order(value: Any) -> Exact:
    """Return the order of a moment."""
    number = _validate.concrete("order", value)
    _validate.within("order", number, 1, math.inf, brackets="[)")
    return Decimal(number)


def failure_probability(value: Any) -> Exact:
    """Return the probability with which a theorem may fail."""
    return probability("failure_probability", value)


def probability(name: str, value: Any) -> Exact:
    """Return a probability that is neither 0 nor 1."""
    number = _validate.concrete(name, value)
    _validate.within(name, number, 0, 1, brackets="()")
    return Decimal(number)


def decay(name: str, value: Any) -> Exact:
    """Return the decay rate of a moving average."""
    number = _validate.concrete(name, value)
    _validate.open_unit(name, number)
    return Decimal(number)


def steps(value: Any) -> Exact:
    """Return the number of steps of the whole run."""
    # The plus rounds an integer of thousands of digits, of which a power would take seconds.
    return +Decimal(_validate.index("steps", value, minimum=1, maximum=None))
