"""Reads the numbers of findings back."""

from __future__ import annotations

import re

import numpy as np

NUMBER = r"([\d.]+(?:e[+-]?\d+)?)"


def whole(text):
    return int(text.replace(",", ""))


def found(advice, pattern):
    """The groups of the first finding that a pattern is in; None without."""
    pattern = pattern.replace("NUMBER", NUMBER).replace("COUNT", r"([\d,]+)")
    hits = [hit for line in advice.findings if (hit := re.search(pattern, line))]
    return hits[0].groups() if hits else None


def tenths(advice, of):
    """The shares by tenth in a finding that begins with `of`; None where it has none."""
    for line in advice.findings:
        if line.startswith(of) and (
            hit := re.search(r"by tenth of the run ([\d.,\- e+]+) %", line)
        ):
            parts = hit[1].split(", ")
            return [np.nan if part == "-" else float(part) / 100 for part in parts]
    return None


def close(said, share):
    """Whether a percentage that is said is the share, within its rounding to three digits."""
    return abs(float(said) - 100 * share) <= max(0.005 * float(said), 1e-12)
