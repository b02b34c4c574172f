"""Norms in logarithmic bins, eight an octave from 2^-64 to 2^64."""

from __future__ import annotations

import math


def bin_of(size: float) -> int:
    """From 0 to 1023; what lies outside counts at the ends."""
    return 0 if size == 0 else min(max(math.floor(8 * math.log2(size)) + 512, 0), 1023)


def middle(size: float) -> float:
    """The geometric middle of the bin of a norm."""
    return float(2.0 ** ((bin_of(size) + 0.5) / 8 - 64))
