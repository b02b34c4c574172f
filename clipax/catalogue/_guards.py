"""Entries of the transformations that keep one bad step, or one bad layer, from the others."""

from __future__ import annotations

import optax

from clipax import transforms
from clipax.catalogue._entry import entry
from clipax.catalogue._sources import NONE

__all__ = ["ENTRIES"]

ENTRIES = (
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
