"""Least squares on features of images, of words and of a table, for the equation for clipped SGD.

N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of SGD with
Gradient Clipping in High-Dimensions", arXiv 2406.11733. Their real data is CIFAR-10 and WikiText-2;
which features they make of it is in an appendix that was not at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.papers.datasets import binary, cifar10, words

__all__ = ["Regression", "regressions"]

_FEATURES, _FEWER = 300, 40
_CONTEXT, _FREQUENT, _EXAMPLES = 8, 100, 10_000
_ANIMALS = (2, 3, 4, 5, 6, 7)


@dataclass(frozen=True)
class Regression:
    """Least squares along the eigenvectors of the features' covariance.

    Attributes:
      name: Of the data.
      features: A row for each example; their covariance is diagonal, its largest entry 1.
      labels: Their mean is 0.
    """

    name: str
    features: np.ndarray
    labels: np.ndarray

    @property
    def spectrum(self) -> np.ndarray:
        """The diagonal of the covariance."""
        return np.asarray(np.mean(self.features**2, axis=0))

    @property
    def solution(self) -> np.ndarray:
        """Of the least squares problem."""
        return np.asarray(self.features.T @ self.labels / len(self.labels) / self.spectrum)

    @property
    def residuals(self) -> np.ndarray:
        """Of the labels, at the solution."""
        return np.asarray(self.labels - self.features @ self.solution)

    @property
    def dimension(self) -> float:
        """The intrinsic one."""
        return float(self.spectrum.sum())

    @property
    def spread(self) -> float:
        """Deviation of the features' squared norms over their mean."""
        squares = np.sum(self.features**2, axis=1)
        return float(squares.std() / squares.mean())

    def rescaled(self) -> Regression:
        """The problem with all features scaled to one norm."""
        norms = np.linalg.norm(self.features, axis=1, keepdims=True)
        return _rotate(f"{self.name}, one norm", self.features / norms, self.labels)


def regressions(data_dir: Path | None, quick: bool, seed: int) -> Iterator[Regression]:
    """Whitened random features of images and of words; with a folder, w1a standardised.

    Args:
      data_dir: Folder with `cifar10`, `wikitext2` and `libsvm`; None for what scikit-learn ships.
      quick: Fewer features, of images alone.
      seed: Of the random features.

    Yields:
      The problems.
    """
    rng = np.random.default_rng(seed)
    count = _FEWER if quick else _FEATURES
    yield _whitened(*_of_images(data_dir, count, rng))
    if not quick:
        yield _whitened(*_of_words(data_dir, count, rng))
    if data_dir is not None:
        name, data = binary(data_dir)
        rows = np.asarray(data.x[:, data.x.std(axis=0) > 0], np.float64)
        labels = np.asarray(data.y, np.float64)
        standard = (rows - rows.mean(axis=0)) / rows.std(axis=0)
        yield _rotate(name, standard, labels - labels.mean())


def _of_images(
    data_dir: Path | None, count: int, rng: np.random.Generator
) -> tuple[str, np.ndarray, np.ndarray]:
    """ReLU of Gaussian projections of each image, centred and scaled by itself; animal or not."""
    images = cifar10(data_dir)
    pixels = np.asarray(images.train.x, np.float64).reshape(len(images.train.x), -1)
    pixels = pixels - pixels.mean(axis=1, keepdims=True)
    pixels = pixels / np.linalg.norm(pixels, axis=1, keepdims=True)
    features = np.maximum(pixels @ rng.normal(size=(pixels.shape[1], count)), 0)
    return images.name, features, np.where(np.isin(images.train.y, _ANIMALS), 1.0, -1.0)


def _of_words(
    data_dir: Path | None, count: int, rng: np.random.Generator
) -> tuple[str, np.ndarray, np.ndarray]:
    """Mean Gaussian code of eight words (or line ends) in a row; whether the next is frequent."""
    # Each word in one example at most, so that examples are nearly independent.
    data = words(data_dir)
    text = data.train + data.validation
    used = min(_EXAMPLES, len(text) // (_CONTEXT + 1)) * (_CONTEXT + 1)
    _, places, counts = np.unique(np.array(text[:used]), return_inverse=True, return_counts=True)
    codes = rng.normal(size=(len(counts), count))
    rows = places.reshape(-1, _CONTEXT + 1)
    frequent = np.isin(rows[:, -1], np.argsort(-counts)[:_FREQUENT])
    return data.name, codes[rows[:, :-1]].mean(axis=1), np.where(frequent, 1.0, -1.0)


def _whitened(name: str, features: np.ndarray, labels: np.ndarray) -> Regression:
    features = features - features.mean(axis=0)
    spectrum, vectors = np.linalg.eigh(features.T @ features / len(features))
    kept = spectrum > 1e-6 * spectrum[-1]
    white = features @ vectors[:, kept] / np.sqrt(spectrum[kept])
    return Regression(name, white, labels - labels.mean())


def _rotate(name: str, features: np.ndarray, labels: np.ndarray) -> Regression:
    """Along the eigenvectors of the features' second moments, the largest scaled to 1."""
    spectrum, vectors = np.linalg.eigh(features.T @ features / len(features))
    kept = spectrum > 1e-6 * spectrum[-1]
    return Regression(name, features @ vectors[:, kept] / math.sqrt(spectrum[-1]), labels)
