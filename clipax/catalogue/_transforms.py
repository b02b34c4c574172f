"""Entries of `clipax.transforms`."""

from __future__ import annotations

import optax

from clipax import norms, transforms
from clipax.catalogue._entry import DIES, entry
from clipax.catalogue._sources import CHEZHEGOV, MAI, NONE, TUCAT, ZHANG

__all__ = ["ENTRIES"]

ENTRIES = (
    entry(
        "clip_by_global_norm",
        transforms.clip_by_global_norm,
        "transformation",
        "u = min(1, c/n) g",
        ZHANG,
        {"max_norm": 1.0},
    ),
    entry(
        "clip_by_leaf_norm",
        transforms.clip_by_leaf_norm,
        "transformation",
        "u_i = min(1, c/n_i) g_i for each leaf i",
        CHEZHEGOV,
        {"threshold": 1.0},
    ),
    entry(
        "clip_by_value",
        transforms.clip_by_value,
        "transformation",
        "u_j = max(-c, min(c, g_j)) for each entry j",
        CHEZHEGOV,
        {"threshold": 0.5},
        static_args=("response",),
    ),
    entry(
        "clip_by_smooth_norm",
        transforms.clip_by_smooth_norm,
        "transformation",
        "u = g/sqrt(1 + (n/c)^2)",
        MAI,
        {"threshold": 1.0},
        static_args=("response", "scope"),
    ),
    entry(
        "clip_by_regularized_norm",
        transforms.clip_by_regularized_norm,
        "transformation",
        "u = min(1, max(delta, c/n)) g",
        TUCAT,
        {"threshold": 1.0, "delta": 0.1},
        static_args=("scope",),
    ),
    entry(
        "normalize_by_global_norm",
        transforms.normalize_by_global_norm,
        "transformation",
        "u = g/(n + eps)",
        ZHANG,
        {"eps": 1e-3},
    ),
    entry(
        "scale_by_adagrad_norm",
        transforms.scale_by_adagrad_norm,
        "transformation",
        "b^2 <- b^2 + n^2, u = g/b",
        CHEZHEGOV,
        {"b_init": 1.0},
        static_args=("delay",),
        verdict=DIES,
    ),
    entry(
        "scale_by_adam_norm",
        transforms.scale_by_adam_norm,
        "transformation",
        "b^2 <- b2 b^2 + (1 - b2) n^2, m <- b1 m + (1 - b1) g, u = m/b",
        CHEZHEGOV,
        {"b_init": 1.0},
        static_args=("delay",),
        verdict=DIES,
    ),
    entry(
        "scale_by_norm",
        transforms.scale_by_norm,
        "transformation",
        "u = after(n) EMA(before(n) g)",
        NONE,
        {"before": norms.clip(1.0), "after": norms.adagrad_norm(1.0), "b1": 0.9},
        static_args=("before", "after", "scope"),
    ),
    entry(
        "delay_updates",
        transforms.delay_updates,
        "transformation",
        "u_t = g_(t - d)",
        NONE,
        {"delay": 2},
        static_args=("delay",),
    ),
    entry(
        "skip_nonfinite",
        transforms.skip_nonfinite,
        "transformation",
        "inner(g) if g is finite, else no step at all",
        NONE,
        {"inner": optax.adam(0.1)},
        static_args=("inner",),
        verdict=DIES,
    ),
)
