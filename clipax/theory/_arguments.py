"""Checks of the numbers that theorems take; they return concrete Python floats."""

from __future__ import annotations

from typing import Any

from clipax import _validate

__all__ = [
    "decay",
    "failure_probability",
    "positive",
    "steps",
    "tail_index",
]


def positive(name: str, value: Any) -> float:
    """Return a positive and finite constant as a float."""
    number = _validate.concrete(name, value)
    _validate.positive(name, number)
    return number


def tail_index(value: Any) -> float:
    """Return `alpha`, the order up to which the noise has moments."""
    number = _validate.concrete("alpha", value)
    _validate.within("alpha", number, 1, 2, brackets="(]")
    return number


def failure_probability(value: Any) -> float:
    """Return the probability with which a theorem may fail."""
    number = _validate.concrete("failure_probability", value)
    _validate.within("failure_probability", number, 0, 1, brackets="()")
    return number


def decay(name: str, value: Any) -> float:
    """Return the decay rate of a moving average."""
    number = _validate.concrete(name, value)
    _validate.open_unit(name, number)
    return number


def steps(value: Any) -> int:
    """Return the number of steps of the whole run."""
    return _validate.index("steps", value, minimum=1)
