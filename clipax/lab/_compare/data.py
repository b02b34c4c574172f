"""Real data for the comparison: scikit-learn's small sets, or a user's `.npz` file."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from clipax.lab._errors import InputError

__all__ = ["BUILT_IN", "Dataset", "Split", "load_data"]

# Shares of the examples of each class; the rest is for training.
_VALIDATION = _TEST = 0.2
_SPLIT_SEED = 20_240_604


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples `x` (float32, first axis the examples) and their classes `y` (int32)."""

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A classification problem, standardised and split.

    Attributes:
      name: its name in titles.
      train: the examples that gradients are computed on.
      validation: the examples that choose the learning rates.
      test: the examples that the results are reported on.
      classes: the number of classes.
      fingerprint: a digest of the raw examples, to tell two files of one name apart.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    fingerprint: str


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return bunch.images, bunch.target


def _breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_breast_cancer

    bunch: Any = load_breast_cancer()
    return bunch.data, bunch.target


def _wine() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_wine

    bunch: Any = load_wine()
    return bunch.data, bunch.target


BUILT_IN: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "digits": _digits,
    "breast-cancer": _breast_cancer,
    "wine": _wine,
}


def load_data(source: str) -> Dataset:
    """Load, check, split and standardise a data set.

    The split is stratified by class, 60 % for training, 20 % for validation and 20 % for testing,
    and is the same for every seed of a comparison. Each feature is standardised by its mean and
    deviation on the training part; features that are constant there are only centred.

    Args:
      source: `digits`, `breast-cancer`, `wine`, or the path of an `.npz` file with `x` (examples
        along the first axis) and `y` (one whole number for each example).

    Returns:
      The data set.

    Raises:
      InputError: if there is no such set or file, or its content cannot be used; the message says
        why.
    """
    if source in BUILT_IN:
        x, y = BUILT_IN[source]()
        return _prepare(source, x, y)
    path = Path(source)
    if not source or (path.suffix != ".npz" and not os.path.exists(path)):
        known = ", ".join(BUILT_IN)
        raise InputError(f"unknown data {source!r}: give {known}, or the path of an .npz file.")
    x, y = _read_npz(path)
    return _prepare(path.name, x, y)


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with path.open("rb") as file:
            return _read_archive(path, file)
    except FileNotFoundError:
        raise InputError(f"data file {path} does not exist.") from None
    except OSError as error:
        raise InputError(f"data file {path} cannot be read: {error.strerror or error}.") from None


def _read_archive(path: Path, file: BinaryIO) -> tuple[np.ndarray, np.ndarray]:
    try:
        archive = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise InputError(f"data file {path} is not an .npz archive.") from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise InputError(f"data file {path} holds a single array, not an .npz archive of x and y.")
    with archive:
        for name in ("x", "y"):
            if name not in archive.files:
                held = ", ".join(archive.files) or "nothing"
                raise InputError(f"data file {path} has no array {name!r}; it holds {held}.")
        return _read_array(path, archive, "x"), _read_array(path, archive, "y")


def _read_array(path: Path, archive: Any, name: str) -> np.ndarray:
    try:
        array = archive[name]
    except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(f"data file {path}: {name} cannot be read: {reason}.") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"data file {path}: {name} is not an array.")
    return array


def _prepare(name: str, x: np.ndarray, y: np.ndarray) -> Dataset:
    _check_examples(name, x)
    labels = _check_labels(name, x, y)
    classes, y = np.unique(labels, return_inverse=True)
    counts = np.bincount(y)
    if len(classes) < 2:
        raise InputError(f"data {name}: y has one class only ({classes[0]}).")
    if counts.min() < 3:
        rare = counts.argmin()
        raise InputError(
            f"data {name}: class {classes[rare]} has too few examples, {counts[rare]}; the "
            f"training, validation and test parts need at least one each."
        )
    digest = hashlib.sha256()
    for array in (x, labels):
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    parts = _split_by_class(y)
    x = _standardise(name, x, parts[0])
    train, validation, test = (Split(x[rows], y[rows].astype(np.int32)) for rows in parts)
    return Dataset(name, train, validation, test, len(classes), digest.hexdigest()[:16])


def _check_examples(name: str, x: np.ndarray) -> None:
    if x.dtype.kind not in "fiub":
        raise InputError(f"data {name}: x must hold real numbers, got {x.dtype}.")
    if x.ndim < 2 or x.size == 0:
        raise InputError(
            f"data {name}: x must have examples along its first axis and features along the "
            f"others, got shape {x.shape}."
        )
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x)).sum())
        raise InputError(f"data {name}: x is not finite everywhere ({bad} of {x.size} entries).")


def _check_labels(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if y.ndim != 1:
        raise InputError(f"data {name}: y must have one axis, got shape {y.shape}.")
    if len(y) != len(x):
        raise InputError(
            f"data {name}: x and y do not match, {len(x)} examples but {len(y)} labels."
        )
    if y.dtype.kind not in "iubf":
        raise InputError(f"data {name}: the labels y must be whole numbers, got {y.dtype}.")
    if y.dtype.kind == "f" and not (whole := np.equal(y, np.trunc(y)) & np.isfinite(y)).all():
        odd = y[np.argmin(whole)]
        raise InputError(f"data {name}: the labels y must be whole numbers, got {odd}.")
    return y.astype(np.int64)


def _split_by_class(y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split the rows into three parts; every class is in each of them."""
    random = np.random.default_rng(_SPLIT_SEED)
    train, validation, test = [], [], []
    for label in range(y.max() + 1):
        rows = random.permutation(np.flatnonzero(y == label))
        first = max(1, round(_VALIDATION * len(rows)))
        second = first + max(1, round(_TEST * len(rows)))
        validation.append(rows[:first])
        test.append(rows[first:second])
        train.append(rows[second:])
    return np.concatenate(train), np.concatenate(validation), np.concatenate(test)


def _standardise(name: str, x: np.ndarray, train: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        deviation = x[train].std(axis=0)
        x = (x - x[train].mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
        x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise InputError(f"data {name}: entries of x are too large to standardise.")
    return x
