"""Checks of what the dynamics take: arrays of float64, and sizes whose squares do not overflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from clipax import _validate
from clipax._typing import Array, Scalar

__all__ = [
    "check_finite",
    "check_noise",
    "check_size",
    "check_spectrum",
    "check_start",
    "check_steps",
    "check_times",
    "find_limits",
    "to_floats",
]

T = TypeVar("T")

# More steps than this fill the memory.
_MOST_STEPS = 10_000_000
# Of squares: the laws multiply them by a few units.
_ROOM = 16.0


def check_size(name: str, value: Scalar) -> None:
    """Raise unless a size is positive and its square a number of float64; traced ones pass."""
    _validate.positive(name, value)
    low, high, _ = find_limits(np.float64)
    _validate.within(name, value, low, high)


def find_limits(dtype: Any = None) -> tuple[float, float, Any]:
    """Find the sizes whose squares a type holds, and the type; default that of the results."""
    limits = jnp.finfo(dtype or jnp.result_type(float))
    # The parts of a square that count must not be lost below the smallest number.
    low = (float(limits.tiny) / float(limits.eps)) ** 0.5
    return low, float(limits.max) ** 0.5 / _ROOM, limits.dtype


def check_noise(noise: Any, risk: Any = 0.0, threshold: Any = 1.0) -> Any:
    """Return the noise in the type of the results; raise unless it holds the squares of sizes.

    Only what is known is checked: traced values pass, and arrays are judged by their results.
    """
    low, high, dtype = find_limits()
    rule = f"in [{low:.2g}, {high:.2g}], where {dtype} holds the squares"

    def holds(value: float) -> bool:
        return low <= value <= high

    _validate.number("noise", noise.scale, f"of a scale {rule}", lambda v: v == 0 or holds(v))
    weights = getattr(noise, "weights", np.ones(1))
    tiny = float(jnp.finfo(dtype).tiny)
    if not isinstance(weights, jax.Array) and ((weights > 0) & (weights < tiny)).any():
        raise ValueError(f"`noise` must have weights of at least {tiny:.2g} in {dtype}, or 0.")
    if not jnp.ndim(risk):
        rule_of_risk = f"at most {high**2:.2g} in {dtype}"
        _validate.number("risk", risk, rule_of_risk, lambda value: value <= high**2)
    if not jnp.ndim(threshold):
        rule_of_threshold = f"{rule}, or infinite"
        _validate.number(
            "threshold", threshold, rule_of_threshold, lambda value: np.isinf(value) or holds(value)
        )

    def convert(leaf: Any) -> Any:
        return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf, dtype)

    # Rare components may be infinite, and are clipped then; NumPy would warn of it in the middle
    # of a call of compiled code.
    with np.errstate(over="ignore"):
        return jax.tree.map(convert, noise)


def check_finite(results: T, rule: str, holds: Callable[[np.ndarray], Any] = np.isfinite) -> T:
    """Return the results; raise with the `rule` unless all hold. Traced ones pass."""
    for leaf in jax.tree.leaves(results):
        if not isinstance(leaf, jax.core.Tracer) and not np.all(holds(np.asarray(leaf))):
            raise ValueError(rule)
    return results


def to_floats(values: Any) -> Array:
    """Convert to the type of the results; what it cannot hold becomes infinite, without warning."""
    with np.errstate(over="ignore"):
        return jnp.asarray(values, float)


def check_steps(horizon: float, dt: float) -> None:
    """Raise where a grid of step `dt` is too fine for its horizon."""
    if not horizon / dt <= _MOST_STEPS:
        raise ValueError(
            f"`dt` must be at least 1/{_MOST_STEPS:,} of the last time, {horizon:g}, got {dt!r}."
        )


def check_spectrum(value: Any) -> np.ndarray:
    """Return the eigenvalues of a covariance matrix."""
    array = _vector("spectrum", value)
    with np.errstate(over="ignore"):
        total = array.sum()
    if not total > 0:
        raise ValueError(f"`spectrum` must have a positive sum, got {total}.")
    low, high, dtype = find_limits()
    if not low**2 <= total <= high**2:
        raise ValueError(
            f"`spectrum` must have a sum in [{low**2:.2g}, {high**2:.2g}] in {dtype}, got {total}."
        )
    return array


def check_start(value: Any, spectrum: np.ndarray) -> np.ndarray:
    """Return half the squared coordinates along the eigenvectors."""
    array = _vector("start", value)
    if array.shape != spectrum.shape:
        raise ValueError(
            f"`start` must have the shape of `spectrum`, {spectrum.shape}, got {array.shape}."
        )
    _, high, dtype = find_limits()
    with np.errstate(over="ignore"):
        risk = spectrum @ array
    if not (risk <= high**2 and array.max() <= high**2):
        raise ValueError(
            f"`start` must have entries and a risk of at most {high**2:.2g} in {dtype}, got "
            f"{array.max()} and {risk}."
        )
    return array


def check_times(value: Any) -> np.ndarray:
    """Return the times of a solution."""
    return _vector("times", value)


def _vector(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value, np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"`{name}` must have one axis and an entry, got shape {array.shape}.")
    if not (np.all(array >= 0) and np.isfinite(array).all()):
        raise ValueError(f"`{name}` must be non-negative and finite, got {array}.")
    return array
