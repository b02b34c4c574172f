"""Reads data sets in LIBSVM's text format."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zlib
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from clipax.lab._errors import InputError

__all__ = ["load_libsvm"]

_LARGEST = float(np.finfo(np.float32).max)
_MOST_BYTES = 8 * 2**30
_PACKED = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}


def load_libsvm(
    path: str | os.PathLike[str], *, features: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    r"""Read examples and labels from LIBSVM text, a line `label index:value ...` each.

    Indices begin at 1 and increase along a line; entries that are not named are 0, and a line may
    name none. Text after `#` and empty lines are left out. Nothing is repaired: a line that is not
    of this form is an error that names it.

    Args:
      path: The file; unpacked where its name ends in `.xz`, `.gz` or `.bz2`.
      features: How many columns there shall be; default None: the largest index of the file. Give
        the training set's number to read its test set, which may name fewer.

    Returns:
      The examples, float32 `(rows, columns)`, and the labels, float32 `(rows,)`: whole ones as they
      stand, others rounded.

    Raises:
      InputError: The file cannot be read or unpacked, has no rows, names more features than
        `features`, has a malformed line or a whole label that float32 does not hold; the message
        gives the file and the line.

    Example:
      >>> import pathlib, tempfile
      >>> from clipax.lab.problems import load_libsvm
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, "data")
      ...     _ = path.write_text("+1 1:0.5 3:2\n-1\n")
      ...     x, y = load_libsvm(path)
      >>> print(x.tolist(), y.tolist())
      [[0.5, 0.0, 2.0], [0.0, 0.0, 0.0]] [1.0, -1.0]
    """
    path = Path(path)
    open_file: Any = _PACKED.get(path.suffix, open)
    try:
        with open_file(path, "rt", encoding="utf-8") as file:
            labels, lengths, indices, values = _read(path, file)
    except FileNotFoundError:
        raise InputError(f"data file {path} does not exist.") from None
    except UnicodeDecodeError:
        raise InputError(f"data file {path} is not text.") from None
    except (lzma.LZMAError, zlib.error, EOFError):
        raise _make_packing_error(path) from None
    except OSError as error:
        # gzip and bz2 raise it without a number for what is not theirs.
        if path.suffix in _PACKED and error.errno is None:
            raise _make_packing_error(path) from None
        raise InputError(f"data file {path} cannot be read: {error.strerror or error}.") from None
    if not labels:
        raise InputError(f"data file {path} has no rows.")
    columns = np.asarray(indices, np.int64)
    named = int(columns.max(initial=0))
    if features is not None and named > features:
        raise InputError(f"data file {path} names feature {named}, more than {features}.")
    width = named if features is None else features
    if 4 * width * len(labels) > _MOST_BYTES:
        raise InputError(
            f"data file {path} would be too large as a table, {len(labels):,} rows of {width:,}."
        )
    x = np.zeros((len(labels), width), np.float32)
    x[np.repeat(np.arange(len(labels)), lengths), columns - 1] = np.asarray(values)
    return x, np.asarray(labels, np.float32)


def _make_packing_error(path: Path) -> InputError:
    return InputError(f"data file {path} is not a complete {path.suffix[1:]} file.")


def _read(
    path: Path, lines: Iterable[str]
) -> tuple[array[float], array[int], array[int], array[float]]:
    """Read labels, the number of entries of each row, and the entries' indices and values."""
    labels, lengths = array("d"), array("q")
    indices, values = array("q"), array("d")
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        label, *entries = words
        try:
            labels.append(_label(label))
            last = 0
            for entry in entries:
                index, _, value = entry.partition(":")
                last = _next_index(index, last)
                indices.append(last)
                values.append(_number(value))
        except ValueError as error:
            raise InputError(f"data file {path}, line {number}: {error}.") from None
        lengths.append(len(entries))
    return labels, lengths, indices, values


def _label(text: str) -> float:
    value = _number(text)
    # Two classes must not become one.
    exact = int(text) if text.lstrip("+-").isdecimal() else value
    if value.is_integer() and float(np.float32(value)) != exact:
        raise ValueError(f"whole labels must be exact in float32, got {text[:40]!r}")
    return value


def _next_index(text: str, last: int) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ValueError(f"expected index:value with a whole number as index, got {text[:40]!r}")
    index = int(text)
    if index <= last:
        rule = "begin at 1" if index < 1 else f"increase, the one before is {last}"
        raise ValueError(f"indices must {rule}, got {index}")
    return index


def _number(text: str) -> float:
    try:
        value = float(text) if "_" not in text else None
    except ValueError:
        value = None
    if value is None:
        raise ValueError(f"expected a number, got {text[:40]!r}")
    if not abs(value) <= _LARGEST:
        raise ValueError(f"numbers must be finite in float32, got {text[:40]!r}")
    return value
