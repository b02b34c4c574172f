"""What theorems take: concrete numbers, as Python floats."""

from __future__ import annotations

from typing import Any

from clipax import _validate

__all__ = ["decay", "failure_probability", "positive", "steps", "tail_index"]


def positive(name: str, value: Any) -> float:
    """A positive and finite constant."""
    found = _validate.concrete(name, value)
    _validate.positive(name, found)
    return found


def tail_index(value: Any) -> float:
    """`alpha`: the noise has moments up to this order."""
    found = _validate.concrete("alpha", value)
    _validate.within("alpha", found, 1, 2, brackets="(]")
    return found


def failure_probability(value: Any) -> float:
    """The probability with which a theorem may fail."""
    found = _validate.concrete("failure_probability", value)
    _validate.within("failure_probability", found, 0, 1, brackets="()")
    return found


def decay(name: str, value: Any) -> float:
    """The decay rate of a moving average."""
    found = _validate.concrete(name, value)
    _validate.open_unit(name, found)
    return found


def steps(value: Any) -> int:
    """The number of steps of the whole run."""
    return _validate.index("steps", value, minimum=1)
