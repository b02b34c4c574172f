"""Checks of arguments, with one wording for the whole package.

Concrete numbers are checked, arrays included. Tracers pass, so that hyper-parameters can be
injected, scheduled and vectorised.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "axis_name",
    "call_hint",
    "concrete",
    "fixed_size",
    "index",
    "integer",
    "learning_rate",
    "non_negative",
    "number",
    "one_of",
    "open_unit",
    "optional_index",
    "positive",
    "schedule",
    "shapes_only",
    "threshold",
    "to_float",
    "transformation",
    "within",
]


_INT32_MAX = 2**31 - 1


def _concrete(name: str, value: Any) -> float | None:
    """Return `value` as a float, or None where it is not known here; raise for no number."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_):
        try:
            return float(value)
        except OverflowError:  # a large integer
            raise ValueError(f"`{name}` must be within the floats, got 10^308 or more.") from None
    if isinstance(value, np.ndarray | jax.Array):
        if not _is_real(value.dtype):
            raise TypeError(f"`{name}` must be a number, got an array of {value.dtype}.")
        if value.ndim:
            raise ValueError(f"`{name}` must be a scalar, got an array of shape {value.shape}.")
        known = not isinstance(value, jax.core.Tracer) and getattr(
            value, "is_fully_addressable", True
        )
        return float(value) if known else None
    raise TypeError(f"`{name}` must be a number, got {value!r}{call_hint(value) or '.'}")


def _is_real(dtype: Any) -> bool:
    """Tell whether numbers of a type are real; flags, keys and text are none."""
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.integer, jnp.floating))


def concrete(name: str, value: Any) -> float:
    """Return `value` as a Python float; raise TypeError where it is traced."""
    known = _concrete(name, value)
    if known is not None:
        return known
    try:
        return float(value)
    except jax.errors.ConcretizationTypeError:
        raise TypeError(f"`{name}` must be a concrete number, got {value!r}.") from None


def number(
    name: str, value: Any, rule: str, holds: Callable[[float], bool], *, hint: str = ""
) -> None:
    """Raise unless `holds(value)` is true; `rule` completes the message "must be ..."."""
    concrete = _concrete(name, value)
    if concrete is not None and not holds(concrete):
        raise ValueError(f"`{name}` must be {rule}, got {value!r}.{hint}")


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
    number(name, value, "positive", lambda v: v > 0, hint=" Infinity clips nothing.")


def call_hint(value: Any) -> str:
    """Return how to go on where a factory of this package was not called; else nothing."""
    module, name = getattr(value, "__module__", ""), getattr(value, "__qualname__", "")
    if not callable(value) or not str(module).startswith("clipax.") or "." in str(name):
        return ""
    room = str(module).split(".")[1]
    made = f"{room}.{name}" if room in ("thresholds", "norms") else f"clipax.{name}"
    return f"; `{made}` makes one when it is called: `{made}(...)`."


def schedule(name: str, value: Callable[..., Any]) -> None:
    """Raise unless a function gives a real scalar for a step count, as an `optax.Schedule` does."""
    text = f"`{name}` must be a number or a schedule, a function from the step count to a number"
    if hint := call_hint(value):
        raise TypeError(f"{text}{hint}")
    try:
        # Evaluated, not traced: outside of `jit` a schedule may have branches of Python.
        with jax.ensure_compile_time_eval():
            result = value(jnp.zeros((), jnp.int32))
            if isinstance(result, numbers.Real) and not isinstance(result, bool):
                return
            dtype = result.dtype if hasattr(result, "dtype") else jnp.asarray(result).dtype
            shape = jnp.shape(result)
    except Exception as error:
        raise TypeError(f"{text}; with a count it raises {error!r}.") from error
    if shape != () or not _is_real(dtype):
        raise TypeError(f"{text}; it gives {dtype}{list(shape)}.")


def learning_rate(value: Any) -> None:
    """Raise unless `value` is a schedule or a non-negative number."""
    if callable(value):
        schedule("learning_rate", value)
        return
    non_negative("learning_rate", value)
    if jnp.issubdtype(jnp.result_type(value), jnp.unsignedinteger):
        raise TypeError(f"`learning_rate` must have a sign, got {value!r}: pass a float.")


def one_of(name: str, value: Any, allowed: Collection[str]) -> None:
    """Raise unless `value` is one of the `allowed` words."""
    if not isinstance(value, str) or value not in allowed:
        words = ", ".join(repr(word) for word in allowed)
        raise ValueError(f"`{name}` must be one of {words}, got {value!r}.")


def index(name: str, value: Any, *, minimum: int = 0, maximum: int | None = _INT32_MAX) -> int:
    """Return `value` as a Python integer; it fixes the shape of a state, so it cannot be traced."""
    hint = (
        " It fixes the shape of the state: under `optax.inject_hyperparams` name it in "
        "`static_args`."
    )
    return _to_integer(name, value, "a concrete integer", minimum, maximum, hint)


def size(name: str, value: Any) -> int:
    """Return `value` as a positive Python integer; it fixes a shape, though none of a state."""
    return _to_integer(name, value, "a concrete integer", 1, _INT32_MAX)


def integer(name: str, value: Any, *, minimum: int = 0, maximum: int | None = _INT32_MAX) -> Any:
    """Return `value` as a Python integer, or as it is where it is traced; it fixes no shape."""
    if isinstance(value, jax.core.Tracer):
        if jnp.ndim(value) or not jnp.issubdtype(value.dtype, jnp.integer):
            raise TypeError(f"`{name}` must be an integer, got {value!r}.")
        return value
    return _to_integer(name, value, "an integer", minimum, maximum)


def _to_integer(
    name: str, value: Any, what: str, minimum: int, maximum: int | None, hint: str = ""
) -> int:
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be an integer, got {value!r}.")
    try:
        result = operator.index(value)
    except TypeError as error:  # tracers raise a subclass of TypeError here
        raise TypeError(f"`{name}` must be {what}, got {value!r}.{hint}") from error
    if result < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}, got {result}.")
    if maximum is not None and result > maximum:
        raise ValueError(f"`{name}` must be at most {maximum}, got {result}.")
    return result


def axis_name(value: Any) -> None:
    """Raise unless `value` names mesh axes, by itself, in a tuple or in a mapping, or is None."""
    several = isinstance(value, tuple | list) and all(isinstance(name, str) for name in value)
    if not (value is None or isinstance(value, str | Mapping) or several):
        raise TypeError(
            f"`axis_name` must be the name of a mesh axis, a tuple of names, or a mapping from "
            f"patterns of paths to them, got {value!r}."
        )


def transformation(name: str, value: Any, *, or_else: str = "") -> None:
    """Raise unless `value` has the functions of a gradient transformation.

    `optax.MultiSteps` has them too. Rules on norms, whose `init` takes a shape, have them as well.
    """
    pair = getattr(value, "init", None), getattr(value, "update", None)
    if not all(callable(part) for part in pair) or hasattr(value, "needs_params"):
        hint = " Call it to make one." if isinstance(value, type(index)) else ""
        if hasattr(value, "needs_params"):
            hint = " Make one of a rule by `clipax.scale_by_norm` or `clipax.clip_by_global_norm`."
        raise TypeError(
            f"`{name}` must be an optax gradient transformation{or_else}, got {value!r}.{hint}"
        )


def shapes_only(
    init: Callable[[tuple[int, ...]], Any], kind: str
) -> Callable[[tuple[int, ...]], Any]:
    """Make the `init` of a rule on norms refuse parameters: a rule is no optax transformation."""

    def checked(shape: tuple[int, ...]) -> Any:
        if not isinstance(shape, tuple) or not all(isinstance(size, int) for size in shape):
            raise TypeError(
                f"A {kind} works on norms, its `init` takes their shape, got a "
                f"{type(shape).__name__}. Make a gradient transformation of it: "
                f"`clipax.scale_by_norm(rule)` of a rule of `clipax.norms`, "
                f"`clipax.clip_by_global_norm(threshold)` of a threshold."
            )
        return init(shape)

    return checked


class _FixedSize:
    """A default that prints, compares and works as its number, and is no `int`."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value

    def __repr__(self) -> str:
        return repr(self._value)

    def __eq__(self, other: object) -> bool:
        return self._value == (other._value if isinstance(other, _FixedSize) else other)

    def __hash__(self) -> int:
        return hash(self._value)


def fixed_size(value: int) -> int:
    """Make the default of an argument that fixes the shape of a state.

    `optax.inject_hyperparams` traces every integer, defaults included, and leaves this alone.
    """
    return cast(int, _FixedSize(value))


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
