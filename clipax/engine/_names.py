"""The names under which telemetry lies in a state, for those who write it and those who read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["FIELDS", "decode_names", "encode_names"]

FIELDS = (
    "grad_norm",
    "threshold",
    "clip_factor",
    "clipped_count",
    "nonfinite_count",
    "is_finite",
)


def encode_names(labels: Sequence[str]) -> np.ndarray:
    """Labels as an array, one row of UTF-8 bytes each: a state holds arrays only.

    So the names survive every checkpoint, unlike the keys of an empty dictionary.
    """
    texts = [label.encode() for label in labels]
    width = max((len(text) for text in texts), default=0)
    return np.array([list(text.ljust(width, b"\0")) for text in texts], np.uint8).reshape(
        len(texts), width
    )


def decode_names(names: Any) -> tuple[str, ...]:
    """The labels that `encode_names` encoded."""
    return tuple(bytes(row).rstrip(b"\0").decode() for row in np.asarray(names, np.uint8))
