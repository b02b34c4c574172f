"""Entries of the transformations that keep one bad step, or one bad layer, from the others."""

from __future__ import annotations

import optax

from clipax import transforms
from clipax.catalogue._entry import entry
from clipax.catalogue._sources import CHEZHEGOV, NONE

__all__ = ["ENTRIES"]

ENTRIES = (
    entry(
        "clip_by_group_norm",
        transforms.clip_by_group_norm,
        "transformation",
        "h_k = min(1, c/n_k) g_k for each group k, u = min(1, C/||h||) h",
        CHEZHEGOV,
        {"threshold": 1.0, "total": 1.2},
        static_args=("labels", "scope"),
    ),
    entry(
        "skip_spikes",
        transforms.skip_spikes,
        "transformation",
        "inner(g) if n <= c, else no step at all",
        NONE,
        {"inner": optax.adam(0.1), "threshold": 10.0},
        static_args=("inner", "max_consecutive"),
    ),
)
