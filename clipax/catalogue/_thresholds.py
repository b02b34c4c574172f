"""Entries of `clipax.thresholds`."""

from __future__ import annotations

from clipax import thresholds
from clipax.catalogue._entry import entry

__all__ = ["ENTRIES"]

ENTRIES = (
    entry(
        "thresholds.power",
        thresholds.power,
        "threshold",
        "c_t = sigma * t^(1/(2 alpha)), 1/alpha or 1/(3 alpha - 2)",
        ("Sadiev et al. 2023; Nguyen et al. 2023", "2302.00999"),
        {"sigma": 1.0, "alpha": 1.5},
    ),
)
