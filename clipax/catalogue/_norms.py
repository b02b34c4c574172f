"""Entries of `clipax.norms`, sorted by name."""

from __future__ import annotations

from clipax import norms
from clipax.catalogue._entry import DIES, Entry

__all__ = ["ENTRIES"]

ENTRIES = (
    Entry(
        "norms.adagrad_norm",
        norms.adagrad_norm,
        "norm",
        "1/b, b^2 <- b^2 + n^2",
        ("chezhegov2025",),
        {"b_init": 1.0},
        static_args=("delay",),
        verdict=DIES,
    ),
    Entry(
        "norms.adam_norm",
        norms.adam_norm,
        "norm",
        "1/b, b^2 <- b2 b^2 + (1 - b2) n^2",
        ("chezhegov2025",),
        {"b_init": 1.0, "b2": 0.999},
        static_args=("delay",),
        verdict=DIES,
    ),
    Entry("norms.clip", norms.clip, "norm", "min(1, c/n)", ("zhang2020",), {"threshold": 1.0}),
    Entry("norms.normalize", norms.normalize, "norm", "1/(n + eps)", ("zhang2020",), {"eps": 1e-3}),
    Entry(
        "norms.regularized",
        norms.regularized,
        "norm",
        "min(1, max(delta, c/n))",
        ("tucat2025",),
        {"threshold": 1.0, "delta": 0.1},
    ),
    Entry(
        "norms.smooth",
        norms.smooth,
        "norm",
        "1/sqrt(1 + (n/c)^2)",
        ("mai2021",),
        {"threshold": 1.0},
        static_args=("response",),
    ),
)
