"""Entries of `clipax.optimizers`."""

from __future__ import annotations

from clipax import optimizers
from clipax.catalogue._entry import entry
from clipax.catalogue._sources import CHEZHEGOV, TUCAT, ZHANG

__all__ = ["ENTRIES"]

ENTRIES = (
    entry(
        "clip_sgd",
        optimizers.clip_sgd,
        "optimizer",
        "x <- x - eta min(1, c/n) g",
        ZHANG,
        {"learning_rate": 0.1, "threshold": 1.0},
        static_args=("scope",),
    ),
    entry(
        "normalized_sgd",
        optimizers.normalized_sgd,
        "optimizer",
        "x <- x - eta/(n + eps) g",
        ZHANG,
        {"learning_rate": 0.1, "eps": 1e-3},
    ),
    entry(
        "regularized_clip_sgd",
        optimizers.regularized_clip_sgd,
        "optimizer",
        "x <- x - eta min(1, max(delta, c/n)) (g + wd x)",
        TUCAT,
        {"learning_rate": 0.1, "threshold": 1.0, "delta": 1e-3},
    ),
    entry(
        "clip_adagrad_norm",
        optimizers.clip_adagrad_norm,
        "optimizer",
        "g' = min(1, c/n) g, b^2 <- b^2 + n'^2, x <- x - eta g'/b",
        CHEZHEGOV,
        {"learning_rate": 0.1, "threshold": 1.0},
        static_args=("delay",),
        variants={"delayed_clip_adagrad_norm": {"delay": 1}},
    ),
    entry(
        "clip_adam_norm",
        optimizers.clip_adam_norm,
        "optimizer",
        "g' = min(1, c/n) g, b^2 <- b2 b^2 + (1 - b2) n'^2, m <- b1 m + (1 - b1) g', "
        "x <- x - eta m/b",
        CHEZHEGOV,
        {"learning_rate": 0.1, "threshold": 1.0},
        static_args=("delay",),
        variants={"delayed_clip_adam_norm": {"delay": 1}},
    ),
)
