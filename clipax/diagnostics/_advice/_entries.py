"""Reads the entries of a log: numbers, numbers as text, and gaps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["Entries", "is_missing", "read_entries"]

_MISSING = frozenset({"", "-", "none", "null", "na", "n/a", "<na>"})


class Entries(NamedTuple):
    """A column of a log.

    Attributes:
      numbers: The entries in float64, NaN where there is none.
      missing: Where nothing was logged: None, an empty text, a masked entry. NaN is an entry.
    """

    numbers: np.ndarray
    missing: np.ndarray


def read_entries(values: Any, name: str) -> Entries:
    """Read a column; raise ValueError where an entry is no number.

    Args:
      values: A vector of any dtype, or an iterable of numbers, texts, scalars of any library, None.
      name: What to call it in a message.
    """
    if hasattr(values, "dtype") and hasattr(values, "__array__"):
        array = np.ma.getdata(values) if np.ma.isMaskedArray(values) else np.asarray(values)
        if array.ndim != 1:
            raise ValueError(f"`{name}` must be a vector, got an array of shape {array.shape}.")
        if _is_numeric(array):
            with np.errstate(over="ignore"):  # long doubles
                return Entries(array.astype(np.float64), np.ma.getmaskarray(values).copy())
        values = array.tolist()
    listed = list(values)
    if {type(value) for value in listed} <= {float, int, np.float64, np.float32}:
        array = np.asarray(listed)
        if _is_numeric(array):  # not of integers beyond int64
            return Entries(array.astype(np.float64), np.zeros(array.size, bool))
    missing = np.fromiter(map(is_missing, listed), bool, len(listed))
    numbers = np.full(len(listed), np.nan)
    for place in np.flatnonzero(~missing):
        numbers[place] = _read_number(listed[place], name, int(place))
    return Entries(numbers, missing)


def _is_numeric(array: np.ndarray) -> bool:
    """Tell whether it holds real numbers; `kind` V: bfloat16 and its kin."""
    return array.dtype.kind in "iuf" or (array.dtype.kind == "V" and array.dtype.names is None)


def is_missing(value: Any) -> bool:
    """Tell whether an entry stands for nothing."""
    if value is None or value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, str) and value.strip().lower() in _MISSING


def _read_number(value: Any, name: str, place: int) -> float:
    if not isinstance(value, bool | np.bool_ | complex | np.complexfloating | bytes):
        try:
            return float(value if isinstance(value, str) or not _is_boxed(value) else value[0])
        except (TypeError, ValueError, OverflowError):
            pass
    shown = f"{value!r:.40}" if isinstance(value, str | bool | int | complex) else ""
    shown = shown or f"a {type(value).__name__}"
    raise ValueError(
        f"`{name}` must hold numbers in the range of float64, entry {place} is {shown}."
    )


def _is_boxed(value: Any) -> bool:
    """Tell whether it is an array with one entry, which `float` takes under protest."""
    return getattr(value, "shape", ()) == (1,)
