"""Standardises features of any size, in float64 without overflow, and says which are constant."""

from __future__ import annotations

import numpy as np

from clipax.lab._errors import InputError

__all__ = ["standardise"]


def standardise(name: str, x: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Subtract each feature's mean and divide by its deviation, those of the training part.

    Features are first shifted by one of their values and scaled by a power of two, both exact: the
    squares of 1e200 would overflow, those of 1e-200 vanish, and the deviation of integers about
    1e18 is lost where they are rounded to float64 first.

    Args:
      name: the data set's name, for messages.
      x: finite examples along the first axis, of any real type.
      train: rows of the training part.

    Returns:
      The features in float32, those that are constant in training only centred, and remarks.

    Raises:
      InputError: an entry is too far from the training part's for float32.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        shifted = _shift(x, train)
        # Of 1: where a feature is constant in training its unit is kept.
        largest = np.abs(shifted[train]).max(axis=0)
        scale = np.where(largest > 0, np.frexp(largest)[1], 0)
        scaled = np.ldexp(shifted, -scale)
        mean, deviation = scaled[train].mean(axis=0), scaled[train].std(axis=0)
        constant = deviation == 0
        standard = ((scaled - mean) / np.where(constant, 1.0, deviation)).astype(np.float32)
    if not (good := np.isfinite(standard)).all():
        row, *place = np.argwhere(~good)[0]
        raise InputError(
            f"data {name}: entries of x are too large to standardise in float32, the first in row "
            f"{row} of feature {_show(place)}: it is {x[(row, *place)]}, far from the others."
        )
    return standard, _remark(constant, standard)


def _shift(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Subtract the first training example, in units of a power of two; exact where it matters."""
    first = x[train[0]]
    if x.dtype.kind in "bu":
        x, first = x.astype(np.uint64), first.astype(np.uint64)
    if x.dtype.kind in "iu":
        # Differences of 64-bit integers need 65 bits: their sizes, as unsigned, and their signs.
        wide = x.astype(np.int64) if x.dtype.kind == "i" else x
        base = first.astype(wide.dtype)
        up, down = (
            wide.view(np.uint64) - base.view(np.uint64),
            base.view(np.uint64) - wide.view(np.uint64),
        )
        return np.where(wide >= base, up.astype(np.float64), -down.astype(np.float64))
    # Wider floats keep their range; narrower ones are held exactly by float64.
    x = x.astype(np.result_type(x.dtype, np.float64))
    exponent = np.frexp(np.abs(x[train]).max(axis=0))[1]
    # Halved once more, as a difference can be twice as large. Kept small where it need not be:
    # a feature of ordinary size is not scaled at all.
    unit = np.where(np.abs(exponent) > 400, exponent + 1, 0)
    return np.ldexp(x, -unit) - np.ldexp(x[train[0]], -unit)


def _remark(constant: np.ndarray, standard: np.ndarray) -> tuple[str, ...]:
    """Say which features tell nothing."""
    count = int(constant.sum())
    if not count:
        return ()
    places = [_show(place) for place in np.argwhere(constant)[:3]]
    shown = ", ".join(places) + (", ..." if count > len(places) else "")
    return (f"{count} of {constant.size} features are constant in training, only centred: {shown}",)


def _show(place: np.ndarray | list[int]) -> str:
    return ",".join(str(int(index)) for index in place)
