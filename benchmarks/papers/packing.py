"""Sentences of a batch in a few rows: little is computed for padding, or between sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Packed", "pack", "spread"]

# Attention computes all pairs of a row. With more rows they are fewer, but padding is more.
_IN_A_ROW = 4
# Rows have a multiple of this length: a program is compiled for each length that occurs.
_STEP = 4


class Packed(NamedTuple):
    """Sentences one after the other, in rows of one length.

    Attributes:
      words: Numbers of the word pieces, of shape (rows, length); zero where it is padded.
      places: Positions within the sentence, likewise.
      owners: Which sentence a word piece is of, likewise; -1 where it is padded.
      firsts: Of each sentence's first word piece the place in the flattened rows.
      classes: One whole number a sentence.
    """

    words: np.ndarray
    places: np.ndarray
    owners: np.ndarray
    firsts: np.ndarray
    classes: np.ndarray


def pack(sentences: Sequence[np.ndarray], classes: np.ndarray, length: int = 0) -> Packed:
    """Puts sentences into rows, some four into each: the longest first, each into the shortest row.

    Args:
      sentences: Numbers of their word pieces.
      classes: One whole number for each.
      length: Of the rows, at least; by default they are as long as needed.

    Returns:
      The rows.
    """
    sizes = np.array([len(sentence) for sentence in sentences])
    used = np.zeros(-(-len(sizes) // _IN_A_ROW), int)
    rows, starts = np.zeros((2, len(sizes)), int)  # of each sentence
    for owner in np.argsort(-sizes, kind="stable"):
        rows[owner] = row = used.argmin()
        starts[owner] = used[row]
        used[row] += sizes[owner]
    rounded = -(-max(length, int(used.max())) // _STEP) * _STEP
    words, places, owners = np.zeros((3, len(used), rounded), np.int32)
    owners -= 1
    for owner, (row, start, size) in enumerate(zip(rows, starts, sizes, strict=True)):
        here = row, slice(start, start + size)
        words[here], places[here], owners[here] = sentences[owner], np.arange(size), owner
    firsts = (rows * rounded + starts).astype(np.int32)
    return Packed(words, places, owners, firsts, classes.astype(np.int32))


def spread(sentences: Sequence[np.ndarray], classes: np.ndarray, count: int) -> list[Packed]:
    """Deals many sentences out to batches of one shape, each with as many sentences but for one.

    Args:
      sentences: Numbers of their word pieces.
      classes: One whole number for each.
      count: How many batches.

    Returns:
      The batches; where one has a sentence less, its first one stands twice, with class -1.
    """
    order = np.argsort([len(sentence) for sentence in sentences], kind="stable")
    dealt = [order[place::count] for place in range(count)]
    most = len(dealt[0])
    drawn = []
    for part in dealt:
        filled = np.concatenate([part, part[:1]])[:most]
        marks = np.where(np.arange(most) < len(part), classes[filled], -1)
        drawn.append(([sentences[i] for i in filled], marks))
    length = max(pack(*one).words.shape[1] for one in drawn)
    return [pack(*one, length) for one in drawn]
