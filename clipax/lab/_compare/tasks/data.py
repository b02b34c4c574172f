"""Real data for the comparison: scikit-learn's small sets, or a user's file."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from clipax.lab._compare.tasks.read import read_examples
from clipax.lab._compare.tasks.standardise import standardise
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
      remarks: sentences about features that tell nothing.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    fingerprint: str
    remarks: tuple[str, ...] = ()


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
      source: `digits`, `breast-cancer`, `wine`, or the path of a file: an `.npz` with `x` (examples
        along the first axis) and `y` (one whole number for each example), or LIBSVM text, which may
        be packed as `load_libsvm` reads it.

    Returns:
      The data set.

    Raises:
      InputError: if there is no such set or file, or its content cannot be used; the message says
        why.
    """
    if source in BUILT_IN:
        x, y = BUILT_IN[source]()
        # That some pixels are never set is known of them.
        return dataclasses.replace(_prepare(source, x, y), remarks=())
    path = Path(source)
    if not source or (path.suffix != ".npz" and not os.path.exists(path)):
        known = ", ".join(BUILT_IN)
        raise InputError(
            f"unknown data {source[:200]!r}: give {known}, or the path of an .npz or LIBSVM file."
        )
    x, y = read_examples(path)
    return _prepare(path.name, x, y)


def _prepare(name: str, x: np.ndarray, y: np.ndarray) -> Dataset:
    _check_examples(name, x)
    _check_labels(name, x, y)
    # Of the labels as they are: a narrower type could merge some of them.
    classes, labels = np.unique(y, return_inverse=True)
    counts = np.bincount(labels)
    if len(classes) < 2:
        raise InputError(f"data {name}: y has one class only ({classes[0]}).")
    if counts.min() < 3:
        rare = counts.argmin()
        raise InputError(
            f"data {name}: class {classes[rare]} has too few examples, {counts[rare]}; the "
            f"training, validation and test parts need at least one each."
        )
    digest = hashlib.sha256()
    for array in (x, y):
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    parts = _split_by_class(labels)
    x, remarks = standardise(name, x, parts[0])
    train, validation, test = (Split(x[rows], labels[rows].astype(np.int32)) for rows in parts)
    return Dataset(name, train, validation, test, len(classes), digest.hexdigest()[:16], remarks)


def _check_examples(name: str, x: np.ndarray) -> None:
    if x.dtype.kind not in "fiub":
        raise InputError(f"data {name}: x must hold real numbers, got {x.dtype}.")
    if x.ndim < 2 or x.size == 0:
        raise InputError(
            f"data {name}: x must have examples along its first axis and features along the "
            f"others, got shape {x.shape}{_explain_shape(x)}."
        )
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x)).sum())
        raise InputError(f"data {name}: x is not finite everywhere ({bad} of {x.size} entries).")


def _explain_shape(x: np.ndarray) -> str:
    return "; a single feature is x[:, None]" if x.ndim == 1 and x.size else ""


def _check_labels(name: str, x: np.ndarray, y: np.ndarray) -> None:
    if y.ndim != 1:
        raise InputError(
            f"data {name}: y must have one axis, got shape {y.shape}{_explain_axes(x, y)}."
        )
    if len(y) != len(x):
        swapped = "; x has its examples along another axis: np.moveaxis(x, {}, 0)"
        axes = [axis for axis, size in enumerate(x.shape) if size == len(y)]
        raise InputError(
            f"data {name}: x and y do not match, {len(x)} examples but {len(y)} labels"
            f"{swapped.format(axes[-1]) if axes else ''}."
        )
    if y.dtype.kind not in "iubf":
        raise InputError(
            f"data {name}: the labels y must be whole numbers, got {y.dtype}; number them by "
            f"np.unique(y, return_inverse=True)[1]."
        )
    if y.dtype.kind == "f" and not (whole := np.equal(y, np.trunc(y)) & np.isfinite(y)).all():
        odd = y[np.argmin(whole)]
        raise InputError(f"data {name}: the labels y must be whole numbers, got {odd}.")


def _explain_axes(x: np.ndarray, y: np.ndarray) -> str:
    """Say how to get labels from a y of several axes."""
    if y.size == len(x):
        return "; give y.ravel()"
    if y.ndim != 2 or y.dtype.kind not in "iubf":
        return ""
    if y.shape[0] == len(x) and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all():
        return ", one-hot labels; give y.argmax(axis=1)"
    return "; x and y may be swapped" if x.ndim == 1 else ""


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
