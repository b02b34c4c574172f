"""What theorems take: concrete numbers, as Python floats, and arrays of float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from clipax import _validate

__all__ = [
    "decay",
    "failure_probability",
    "positive",
    "spectrum",
    "start",
    "steps",
    "tail_index",
    "times",
]


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


def spectrum(value: Any) -> np.ndarray:
    """Eigenvalues of a covariance matrix."""
    array = _vector("spectrum", value)
    if not array.sum() > 0:
        raise ValueError(f"`spectrum` must have a positive sum, got {array.sum()}.")
    return array


def start(value: Any, like: np.ndarray) -> np.ndarray:
    """Half the squared coordinates along the eigenvectors."""
    array = _vector("start", value)
    if array.shape != like.shape:
        raise ValueError(
            f"`start` must have the shape of `spectrum`, {like.shape}, got {array.shape}."
        )
    return array


def times(value: Any) -> np.ndarray:
    """Times at which a solution is wanted."""
    return _vector("times", value)


def _vector(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value, np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"`{name}` must have one axis and an entry, got shape {array.shape}.")
    if not (np.all(array >= 0) and np.isfinite(array).all()):
        raise ValueError(f"`{name}` must be non-negative and finite, got {array}.")
    return array
