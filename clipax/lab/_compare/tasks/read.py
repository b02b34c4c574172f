"""Reads a user's data: an `.npz` archive of x and y, or LIBSVM text."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from clipax.lab._errors import InputError
from clipax.lab.problems import load_libsvm

__all__ = ["read_examples"]

_ZIP, _NPY = b"PK\x03\x04", b"\x93NUMPY"
_EMPTY_ZIP = b"PK\x05\x06"
# Names under which others save examples and labels, in the order in which they are proposed.
_EXAMPLES = (
    *("X", "x_train", "X_train", "train_x", "train_X", "trainX", "data", "features", "images"),
    *("inputs", "input", "samples", "examples", "train_images", "train_data", "arr_0"),
)
_LABELS = (
    *("Y", "y_train", "Y_train", "train_y", "train_Y", "trainY", "target", "targets", "labels"),
    *("label", "classes", "class", "train_labels", "outputs", "arr_1"),
)


def read_examples(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read examples and labels, not yet checked.

    Args:
      path: a file; its content says which kind it is, unless it ends in `.npz`.

    Returns:
      The arrays x and y.

    Raises:
      InputError: it cannot be read; the message says why.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_NPY))
            file.seek(0)
            if path.suffix == ".npz" or start.startswith((_ZIP, _EMPTY_ZIP, _NPY)):
                return _read_archive(path, file)
    except FileNotFoundError:
        raise InputError(f"data file {path} does not exist.") from None
    except OSError as error:
        raise InputError(f"data file {path} cannot be read: {error.strerror or error}.") from None
    return load_libsvm(path)


def _read_archive(path: Path, file: BinaryIO) -> tuple[np.ndarray, np.ndarray]:
    try:
        archive = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise InputError(f"data file {path} is not an .npz archive, or is damaged.") from None
    except OSError:
        raise
    except Exception as error:
        raise InputError(f"data file {path} cannot be read: {_explain(error)}.") from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise InputError(
            f"data file {path} holds a single array, not an .npz archive of x and y: save both by "
            f"`np.savez(file, x=x, y=y)`."
        )
    with archive:
        for name in ("x", "y"):
            if name not in archive.files:
                held = ", ".join(archive.files[:20]) or "nothing"
                raise InputError(
                    f"data file {path} has no array {name!r}; it holds {held}."
                    f"{_propose_names(archive.files)}"
                )
        return _read_array(path, archive, "x"), _read_array(path, archive, "y")


def _propose_names(held: list[str]) -> str:
    """Say how to rename arrays that look like x and y."""
    found = {}
    for name, others in (("x", _EXAMPLES), ("y", _LABELS)):
        found[name] = next((one for one in (name, *others) if one in held), None)
    if None in found.values():
        return ""
    arrays = ", ".join(f"{name}=d[{one!r}]" for name, one in found.items())
    return f" Rename them: d = np.load(file); np.savez(file, {arrays})."


def _read_array(path: Path, archive: Any, name: str) -> np.ndarray:
    try:
        array = archive[name]
    except Exception as error:
        # NumPy, zipfile and the decompressors raise nearly anything on a damaged file: errors of
        # syntax and of tokens for a header, RuntimeError for a password, and their own.
        reason = _explain(error)
        if "allow_pickle" in reason:
            reason = f"it holds Python objects; save numbers, as by `{name}.astype(float)`"
        raise InputError(f"data file {path}: {name} cannot be read: {reason}.") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"data file {path}: {name} is not an array.")
    return array


def _explain(error: Exception) -> str:
    """Make one short line of an error's message."""
    lines = str(error).splitlines() or [""]
    return lines[0].strip()[:200].rstrip(".: ") or type(error).__name__
