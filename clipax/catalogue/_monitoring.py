"""Entries of what remembers the distribution of norms: percentiles, tail index, monitor."""

from __future__ import annotations

from clipax import thresholds, transforms
from clipax.catalogue._entry import entry
from clipax.catalogue._sources import NONE

__all__ = ["ENTRIES"]

_AUTOCLIP = ("Seetharaman et al. 2020", "2007.14469")
_OWN = ("this library", None)

ENTRIES = (
    entry(
        "thresholds.percentile",
        thresholds.percentile,
        "threshold",
        "c_t = the ceil(p t/100)-th smallest of all t norms",
        _AUTOCLIP,
        {"percentile": 40.0, "window": 30},
        static_args=("window",),
    ),
    entry(
        "thresholds.tail_power",
        thresholds.tail_power,
        "threshold",
        "c_t = median_t * t^p(alpha_t), alpha_t = Hill's estimate of the tail index",
        _OWN,
        {"warmup": 20, "fraction": 0.1},
        static_args=("warmup",),
    ),
    entry(
        "clip_by_percentile",
        transforms.clip_by_percentile,
        "transformation",
        "u = min(1, c_t/n) g, c_t = the ceil(p t/100)-th smallest of all t norms",
        _AUTOCLIP,
        {"percentile": 10.0},
        static_args=("window", "scope"),
    ),
    entry(
        "monitor_norms",
        transforms.monitor_norms,
        "transformation",
        "u = g; counts of the norms by size",
        NONE,
        {},
        static_args=("scope",),
    ),
)
