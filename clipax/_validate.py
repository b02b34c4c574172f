"""Checks of arguments, with one wording for the whole package.

Only concrete Python and NumPy numbers are checked. Arrays and tracers pass, so that
hyper-parameters can be injected, scheduled and vectorised.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "concrete",
    "index",
    "learning_rate",
    "non_negative",
    "number",
    "one_of",
    "open_unit",
    "optional_index",
    "positive",
    "threshold",
    "to_float",
    "within",
]


def _concrete(name: str, value: Any) -> float | None:
    """Return `value` as a float, or None where it is traced; raise TypeError for no number."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be a number, got {value!r}.")
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, np.ndarray | jax.Array):
        if value.ndim:
            raise ValueError(f"`{name}` must be a scalar, got an array of shape {value.shape}.")
        return float(value) if isinstance(value, np.ndarray) else None
    raise TypeError(f"`{name}` must be a number, got {value!r}.")


def concrete(name: str, value: Any) -> float:
    """Return `value` as a Python float; raise TypeError where it is traced."""
    known = _concrete(name, value)
    if known is not None:
        return known
    try:
        return float(value)
    except jax.errors.ConcretizationTypeError:
        raise TypeError(f"`{name}` must be a concrete number, got {value!r}.") from None


def number(name: str, value: Any, rule: str, holds: Callable[[float], bool]) -> None:
    """Raise unless `holds(value)` is true; `rule` completes the message "must be ..."."""
    concrete = _concrete(name, value)
    if concrete is not None and not holds(concrete):
        raise ValueError(f"`{name}` must be {rule}, got {value!r}.")


def positive(name: str, value: Any, *, finite: bool = True) -> None:
    """Raise unless `value > 0` (and finite, unless infinity has a meaning)."""
    if finite:
        number(name, value, "positive and finite", lambda v: v > 0 and math.isfinite(v))
    else:
        number(name, value, "positive", lambda v: v > 0)


def non_negative(name: str, value: Any) -> None:
    """Raise unless `value >= 0` and finite."""
    number(name, value, "non-negative and finite", lambda v: v >= 0 and math.isfinite(v))


def within(name: str, value: Any, low: float, high: float, *, brackets: str = "[]") -> None:
    """Raise unless `value` lies between `low` and `high`; `brackets` says which ends belong."""
    left, right = brackets[0], brackets[1]
    above = operator.ge if left == "[" else operator.gt
    below = operator.le if right == "]" else operator.lt
    rule = f"in {left}{low:g}, {high:g}{right}"
    number(name, value, rule, lambda v: above(v, low) and below(v, high))


def open_unit(name: str, value: Any) -> None:
    """Raise unless `0 <= value < 1`, the range of a decay rate of a moving average."""
    within(name, value, 0, 1, brackets="[)")


def threshold(name: str, value: Any) -> None:
    """Raise unless `value` can be a threshold: positive, infinity (never clip) included."""
    positive(name, value, finite=False)


def learning_rate(value: Any) -> None:
    """Raise unless `value` is a schedule or a non-negative number."""
    if not callable(value):
        non_negative("learning_rate", value)


def one_of(name: str, value: Any, allowed: Collection[str]) -> None:
    """Raise unless `value` is one of the `allowed` words."""
    if not isinstance(value, str) or value not in allowed:
        words = ", ".join(repr(word) for word in allowed)
        raise ValueError(f"`{name}` must be one of {words}, got {value!r}.")


def index(name: str, value: Any, *, minimum: int = 0) -> int:
    """Return `value` as a Python integer; it fixes the shape of a state, so it cannot be traced."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be an integer, got {value!r}.")
    try:
        result = operator.index(value)
    except TypeError as error:  # tracers raise a subclass of TypeError here
        raise TypeError(
            f"`{name}` must be a concrete integer, got {value!r}. It fixes the shape of the "
            f"state: under `optax.inject_hyperparams` name it in `static_args`."
        ) from error
    if result < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}, got {result}.")
    return result


def optional_index(name: str, value: Any) -> int:
    """Return `index(name, value)`, or 0 for None (no delay, no memory)."""
    return 0 if value is None else index(name, value)


def to_float(value: Any, dtype: Any) -> jax.Array:
    """Convert a number to an array; one beyond the type's range is infinite, without a warning.

    NumPy warns where it casts 1e300 to float32. One below the smallest number is zero.
    """
    kind = jax.dtypes.canonicalize_dtype(dtype)
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, numbers.Real) and abs(float(value)) > float(jnp.finfo(kind).max):
        value = math.copysign(math.inf, value)
    return jnp.asarray(value, dtype)
