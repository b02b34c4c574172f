"""Entries of methods that see more than Euclidean norms: matrices, duals, what was cut off."""

from __future__ import annotations

from clipax import optimizers, transforms
from clipax.catalogue._entry import DIES, entry

__all__ = ["ENTRIES"]

ENTRIES = (
    entry(
        "clip_by_singular_values",
        transforms.clip_by_singular_values,
        "transformation",
        "u = U min(S, c) V^T for each matrix g = U S V^T",
        ("Jiang, Semenov & Stich 2026", "2603.14315"),
        {"threshold": 1.0},
        static_args=("scope",),
    ),
    entry(
        "with_error_feedback",
        transforms.with_error_feedback,
        "transformation",
        "v <- v + clip(g - v), u = v",
        ("Khirirat et al. 2023", "2305.18929"),
        {"inner": transforms.clip_by_global_norm(1.0)},
        static_args=("inner",),
    ),
    entry(
        "ggnc",
        optimizers.ggnc,
        "optimizer",
        "m <- b m + (1 - b) g, x <- x + eta min(rho, <m, -v>) v, v = argmin_(|v| <= 1) <m, v>",
        ("Pethick et al. 2025", "2506.01913"),
        {"learning_rate": 0.1, "radius": 1.0},
        static_args=("norm", "scope"),
        verdict=DIES,
    ),
)
