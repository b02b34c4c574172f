"""Checks of the arrays that the dynamics take; they return arrays of float64."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["check_spectrum", "check_start", "check_times"]


def check_spectrum(value: Any) -> np.ndarray:
    """Return the eigenvalues of a covariance matrix."""
    array = _vector("spectrum", value)
    if not array.sum() > 0:
        raise ValueError(f"`spectrum` must have a positive sum, got {array.sum()}.")
    return array


def check_start(value: Any, spectrum: np.ndarray) -> np.ndarray:
    """Return half the squared coordinates along the eigenvectors."""
    array = _vector("start", value)
    if array.shape != spectrum.shape:
        raise ValueError(
            f"`start` must have the shape of `spectrum`, {spectrum.shape}, got {array.shape}."
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
