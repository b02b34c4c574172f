"""Sentences of a batch in one row, so that nothing is computed for padding but at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Row", "pack", "spread"]

# Rows have a multiple of this length: a program is compiled for each length that occurs.
_STEP = 16


class Row(NamedTuple):
    """Sentences one after the other.

    Attributes:
      words: Numbers of the word pieces; zero where it is padded.
      places: Positions within the sentence.
      owners: Which sentence a word piece is of; -1 where it is padded.
      firsts: Where each sentence starts.
      classes: One whole number a sentence.
    """

    words: np.ndarray
    places: np.ndarray
    owners: np.ndarray
    firsts: np.ndarray
    classes: np.ndarray


def pack(sentences: Sequence[np.ndarray], classes: np.ndarray, length: int = 0) -> Row:
    """Puts sentences into one row.

    Args:
      sentences: Numbers of their word pieces.
      classes: One whole number for each.
      length: Of the row, at least; by default it is as long as needed.

    Returns:
      The row.
    """
    sizes = np.array([len(sentence) for sentence in sentences])
    rounded = -(-max(length, int(sizes.sum())) // _STEP) * _STEP
    room = rounded - sizes.sum()
    words = np.concatenate([*sentences, np.zeros(room, int)])
    places = np.concatenate([*(np.arange(size) for size in sizes), np.zeros(room, int)])
    owners = np.concatenate([np.repeat(np.arange(len(sizes)), sizes), np.full(room, -1)])
    firsts = np.cumsum(sizes) - sizes
    return Row(*(part.astype(np.int32) for part in (words, places, owners, firsts, classes)))


def spread(sentences: Sequence[np.ndarray], classes: np.ndarray, rows: int) -> list[Row]:
    """Puts many sentences into rows of one length, each with as many sentences but for one.

    Args:
      sentences: Numbers of their word pieces.
      classes: One whole number for each.
      rows: How many.

    Returns:
      The rows; where a row has a sentence less, its first one stands twice, with class -1.
    """
    order = np.argsort([len(sentence) for sentence in sentences], kind="stable")
    dealt = [order[place::rows] for place in range(rows)]
    most = len(dealt[0])
    filled = [np.concatenate([part, part[:1]])[:most] for part in dealt]
    drawn = []
    for part, all_of_it in zip(dealt, filled, strict=True):
        marks = np.where(np.arange(most) < len(part), classes[all_of_it], -1)
        drawn.append(([sentences[i] for i in all_of_it], marks))
    length = max(sum(len(sentence) for sentence in part) for part, _ in drawn)
    return [pack(part, marks, length) for part, marks in drawn]
