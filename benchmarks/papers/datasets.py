"""Real data for the papers' experiments: a folder of larger sets, or what scikit-learn ships.

Every function takes the folder, which holds one folder a data set (`libsvm`, `cola`, ...) with the
files as they were published, packed by xz or not. Without a folder it gives a small set of the same
kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import sklearn.datasets

from benchmarks.papers.formats import (
    decode,
    find,
    parse_idx,
    parse_records,
    parse_sentences,
    read,
)
from clipax.lab import InputError, Split
from clipax.lab.problems import load_libsvm

__all__ = [
    "Images",
    "Sentences",
    "Words",
    "binary",
    "cifar10",
    "fashion_mnist",
    "sentences",
    "shrink",
    "text",
    "words",
]


@dataclass(frozen=True)
class Images:
    """Images of shape (n, height, width, channels) in [0, 1], and their classes.

    Attributes:
      name: Of the data set.
      train: What gradients see.
      test: What they do not.
    """

    name: str
    train: Split
    test: Split


@dataclass(frozen=True)
class Sentences:
    """Sentences and their classes.

    Attributes:
      name: Of the data set, and what the classes are.
      train: What gradients see.
      train_classes: One whole number for each.
      validation: What they do not.
      validation_classes: One whole number for each.
    """

    name: str
    train: list[str]
    train_classes: np.ndarray
    validation: list[str]
    validation_classes: np.ndarray


@dataclass(frozen=True)
class Words:
    """Two running texts, word by word, with `<eos>` where a line ends.

    Attributes:
      name: Of the data set.
      train: What gradients see.
      validation: What they do not.
    """

    name: str
    train: list[str]
    validation: list[str]


def binary(data_dir: Path | None) -> tuple[str, Split]:
    """w1a, or scikit-learn's breast cancer: examples, and labels in {-1, 1}.

    Args:
      data_dir: Folder with `libsvm/w1a`; None for breast cancer, each feature standardised.

    Returns:
      The name and the examples.

    Raises:
      InputError: The file is missing or malformed.
    """
    if data_dir is not None:
        x, y = load_libsvm(find(data_dir, "libsvm", "w1a"), features=300)
        return "w1a", Split(x, y.astype(np.int32))
    x, y = sklearn.datasets.load_breast_cancer(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return "breast cancer", Split(x.astype(np.float32), (2 * y - 1).astype(np.int32))


def fashion_mnist(data_dir: Path | None) -> Images:
    """Fashion-MNIST, or scikit-learn's digits (8x8).

    Args:
      data_dir: Folder with `fashion_mnist/train20k-images-idx3-ubyte` and the like.

    Returns:
      The images.

    Raises:
      InputError: A file is missing or malformed.
    """
    if data_dir is None:
        return _digits()

    def part(name: str) -> Split:
        files = [f"{name}-images-idx3-ubyte", f"{name}-labels-idx1-ubyte"]
        x, y = (parse_idx(read(data_dir, "fashion_mnist", file), file) for file in files)
        if x.ndim != 3 or y.shape != x.shape[:1]:
            raise InputError(f"{files[0]} of shape {x.shape} and labels of shape {y.shape}.")
        return Split((x[..., None] / 255).astype(np.float32), y.astype(np.int32))

    return Images("Fashion-MNIST", part("train20k"), part("t10k"))


def cifar10(data_dir: Path | None) -> Images:
    """A part of CIFAR-10, or scikit-learn's digits (8x8, one channel).

    Args:
      data_dir: Folder with `cifar10/cifar10_train_part0.bin` and `cifar10_test_part0.bin`.

    Returns:
      The images.

    Raises:
      InputError: A file is missing or malformed.
    """
    if data_dir is None:
        return _digits()

    def part(name: str) -> Split:
        file = f"cifar10_{name}_part0.bin"
        return parse_records(read(data_dir, "cifar10", file), file)

    return Images("CIFAR-10", part("train"), part("test"))


def shrink(images: np.ndarray, side: int) -> np.ndarray:
    """Makes images of fewer pixels, each the mean of a square.

    Args:
      images: Of shape (n, height, width, channels), both multiples of a square's side.
      side: The least height in pixels; squares are as large as it allows. Images of less than twice
        as many are left as they are.

    Returns:
      The images, in their type.
    """
    count, height, width, channels = images.shape
    factor = max(1, height // side)
    squares = (count, height // factor, factor, width // factor, factor, channels)
    return np.asarray(images.reshape(squares).mean(axis=(2, 4)))


def text(data_dir: Path | None) -> tuple[str, str]:
    """The tiny Shakespeare, or the descriptions of scikit-learn's data sets.

    Args:
      data_dir: Folder with `tinyshakespeare/input.txt`.

    Returns:
      The name and the text.

    Raises:
      InputError: The file is missing or no UTF-8.
    """
    if data_dir is None:
        return "descriptions", "\n".join(_descriptions().values())
    return "tiny Shakespeare", decode(read(data_dir, "tinyshakespeare", "input.txt"), "input.txt")


def words(data_dir: Path | None) -> Words:
    """WikiText-2, or the descriptions of scikit-learn's data sets, the last fifth held out.

    Args:
      data_dir: Folder with `wikitext2/wiki.train.tokens.permuted` and `wiki.valid.tokens`.

    Returns:
      The words.

    Raises:
      InputError: A file is missing or no UTF-8.
    """

    def split(lines: list[str]) -> list[str]:
        return [word for line in lines for word in (*line.split(), "<eos>")]

    if data_dir is not None:
        train, held = (
            decode(read(data_dir, "wikitext2", file), file).splitlines()
            for file in ("wiki.train.tokens.permuted", "wiki.valid.tokens")
        )
        return Words("WikiText-2", split(train), split(held))
    lines = "\n".join(_descriptions().values()).splitlines()
    cut = 4 * len(lines) // 5
    return Words("descriptions", split(lines[:cut]), split(lines[cut:]))


def sentences(data_dir: Path | None) -> Sentences:
    """CoLA with both of its development sets, or lines of scikit-learn's descriptions.

    The class of a sentence of CoLA is whether it is acceptable, that of a line of a description is
    the data set that it describes; each fifth of the lines is for validation.

    Args:
      data_dir: Folder with `cola/in_domain_train.tsv`, `in_domain_dev.tsv` and
        `out_of_domain_dev.tsv`; the last two are GLUE's validation set.

    Returns:
      The sentences.

    Raises:
      InputError: A file is missing or malformed.
    """
    if data_dir is not None:
        train, near, far = (
            parse_sentences(read(data_dir, "cola", f"{name}.tsv"), f"{name}.tsv")
            for name in ("in_domain_train", "in_domain_dev", "out_of_domain_dev")
        )
        validation = near[0] + far[0], np.concatenate([near[1], far[1]])
        return Sentences("CoLA", *train, *validation)
    lines = [
        (line.strip(), label)
        for label, description in enumerate(_descriptions().values())
        for line in description.splitlines()
        if sum(word.isalpha() for word in line.split()) >= 4  # prose, not tables
    ]
    texts, labels = [line for line, _ in lines], np.array([label for _, label in lines], np.int32)
    held = np.arange(len(lines)) % 5 == 4
    train_texts = [text for text, out in zip(texts, held, strict=True) if not out]
    held_texts = [text for text, out in zip(texts, held, strict=True) if out]
    return Sentences("descriptions", train_texts, labels[~held], held_texts, labels[held])


def _digits() -> Images:
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    x, y = (x.reshape(-1, 8, 8, 1) / 16).astype(np.float32), y.astype(np.int32)
    held = np.arange(len(y)) % 5 == 4
    return Images("digits", Split(x[~held], y[~held]), Split(x[held], y[held]))


def _descriptions() -> dict[str, str]:
    """Texts that scikit-learn ships beside its data sets, by file name."""
    folder = resources.files("sklearn.datasets.descr")
    files = sorted((file for file in folder.iterdir()), key=lambda file: file.name)
    return {file.name: file.read_text("utf-8") for file in files if file.name.endswith(".rst")}
