"""Decimal arithmetic for the theorems, and results that float64 can hold.

A product of constants leaves the range of float64 long before the result does: `sigma**2` at
1e200, `smoothness * log` at 1e308. Decimal numbers have exponents of 18 digits, so that a formula
is written as in its paper, and only its result can be too large or too small.
"""

from __future__ import annotations

import decimal
import functools
import inspect
import math
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any, ParamSpec, TypeVar

__all__ = ["compute_exactly", "to_float", "to_floats"]

P = ParamSpec("P")
R = TypeVar("R")

# Twice the digits of float64 and more: `1 - b1` and `1 - K**-r` are exact where they cancel.
_CONTEXT = decimal.Context(prec=50, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)
_SMALLEST, _LARGEST = sys.float_info.min, sys.float_info.max
# Decay rates must stay below 1; only the number of steps brings them there.
_DECAYS = ("b1", "b2", "decay")
_LAST_DECAY = math.nextafter(1.0, 0.0)


class _OutOfRangeError(Exception):
    """A result that float64 cannot hold."""

    def __init__(self, name: str, value: Decimal, rule: str) -> None:
        super().__init__(name, value, rule)
        self.name, self.value, self.rule = name, value, rule


def compute_exactly(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function compute in decimals; a result out of range names the argument to change."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def compute(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with decimal.localcontext(_CONTEXT):
                return function(*args, **kwargs)
        except _OutOfRangeError as error:
            arguments = signature.bind(*args, **kwargs).arguments
            name = "steps" if error.name in _DECAYS else max(arguments, key=_rank(arguments))
            raise ValueError(
                f"`{name}` must be such that the {error.name} is in {error.rule}, got "
                f"{_show(arguments[name])}: it would be {error.value:.2e}."
            ) from None

    return compute


def to_floats(kind: Callable[..., R], *values: Decimal | float | None) -> R:
    """Make a tuple of results, `kind`, from decimals; other values stay as they are."""
    names = inspect.signature(kind).parameters
    return kind(
        *(
            to_float(name, value) if isinstance(value, Decimal) else value
            for name, value in zip(names, values, strict=True)
        )
    )


def to_float(name: str, value: Decimal) -> float:
    """Round a result to the next float64; raise where there is none beside 0 and infinity."""
    number = float(value)
    if name in _DECAYS:
        if not number < 1:
            raise _OutOfRangeError(name, value, f"[0, {_LAST_DECAY!r}]")
    elif not _SMALLEST <= number <= _LARGEST:
        raise _OutOfRangeError(name, value, f"[{_SMALLEST:.2g}, {_LARGEST:.2g}]")
    return number


def _rank(arguments: dict[str, Any]) -> Callable[[str], float]:
    """Rank arguments by their distance from 1 in orders of magnitude."""

    def rank(name: str) -> float:
        value = arguments[name]
        if value is None or isinstance(value, bool):
            return 0.0
        number = abs(Decimal(value) if isinstance(value, int) else Decimal(float(value)))
        return abs(number.adjusted()) if number else 0.0

    return rank


def _show(value: Any) -> str:
    # The digits of a large integer fill pages, and Python refuses to print more than 4,300.
    if isinstance(value, int) and value >= 10**20:
        return f"{Decimal(value):.2e}"
    return repr(value)
