"""Entries of `clipax.norms`."""

from __future__ import annotations

from clipax import norms
from clipax.catalogue._entry import DIES, entry
from clipax.catalogue._sources import CHEZHEGOV, MAI, TUCAT, ZHANG

__all__ = ["ENTRIES"]

ENTRIES = (
    entry("norms.clip", norms.clip, "norm", "min(1, c/n)", ZHANG, {"threshold": 1.0}),
    entry(
        "norms.regularized",
        norms.regularized,
        "norm",
        "min(1, max(delta, c/n))",
        TUCAT,
        {"threshold": 1.0, "delta": 0.1},
    ),
    entry(
        "norms.smooth",
        norms.smooth,
        "norm",
        "1/sqrt(1 + (n/c)^2)",
        MAI,
        {"threshold": 1.0},
        static_args=("response",),
    ),
    entry("norms.normalize", norms.normalize, "norm", "1/(n + eps)", ZHANG, {"eps": 1e-3}),
    entry(
        "norms.adagrad_norm",
        norms.adagrad_norm,
        "norm",
        "1/b, b^2 <- b^2 + n^2",
        CHEZHEGOV,
        {"b_init": 1.0},
        static_args=("delay",),
        verdict=DIES,
    ),
    entry(
        "norms.adam_norm",
        norms.adam_norm,
        "norm",
        "1/b, b^2 <- b2 b^2 + (1 - b2) n^2",
        CHEZHEGOV,
        {"b_init": 1.0, "b2": 0.999},
        static_args=("delay",),
        verdict=DIES,
    ),
)
