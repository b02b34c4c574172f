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
    Entry(
        "norms.band",
        norms.band,
        "norm",
        "h S/n where n > h S, min(M, l S/n) where n < l S, S = EMA of min(n, h S)",
        ("li2026", "dubey2023"),
        {"low": 0.5, "high": 3.0},
    ),
    Entry(
        "norms.clip",
        norms.clip,
        "norm",
        "min(1, c/n), min(1, max(floor, c/n)), 1/sqrt(1 + (n/c)^2), ...",
        ("zhang2020",),
        {"threshold": 1.0},
        static_args=("response",),
    ),
    Entry(
        "norms.max_ccc_clip",
        norms.max_ccc_clip,
        "norm",
        "min(1, c/n)/share within, c = argmax_c (share within)^2 mean n^2 / mean min(n^2, c^2)",
        ("marshall2025",),
        {"window": 30},
        static_args=("window",),
    ),
    Entry("norms.normalize", norms.normalize, "norm", "1/(n + eps)", ("zhang2020",), {"eps": 1e-3}),
    Entry(
        "norms.rms_clip",
        norms.rms_clip,
        "norm",
        "min(1, kappa R/n) min(max(1, 1/kappa), 1/share within), R^2 = EMA of n^2",
        ("marshall2025",),
        {"kappa": 0.5},
        static_args=("compensate",),
    ),
    Entry(
        "norms.stabilize",
        norms.stabilize,
        "norm",
        "m/(sqrt(v) + eps)/n, m = EMA of n, v = EMA of n^2",
        ("huang2026",),
        {},
        # The root mean square takes in spikes whole.
        verdict=DIES,
    ),
)
