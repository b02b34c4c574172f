"""Entries of `clipax.optimizers`."""

from __future__ import annotations

from clipax import optimizers
from clipax.catalogue._entry import DIES, entry
from clipax.catalogue._sources import CHEZHEGOV, MARSHALL, MERAD, MIXED, TUCAT, ZHANG

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
    entry(
        "quantile_clip_sgd",
        optimizers.quantile_clip_sgd,
        "optimizer",
        "x <- x - eta min(1, c_t/n) g, c_t = the ceil(p S)-th smallest of the last S norms",
        MERAD,
        {"learning_rate": 0.1, "quantile": 0.75, "window": 30},
        static_args=("window",),
    ),
    entry(
        "max_ccc_sgd",
        optimizers.max_ccc_sgd,
        "optimizer",
        "x <- x - eta/F(c) min(1, c/n) g, c = argmax_c F(c)^2 mean n^2 / mean min(n^2, c^2)",
        MARSHALL,
        {"learning_rate": 0.1, "window": 30},
        static_args=("window",),
    ),
    entry(
        "clip_radagrad_norm",
        optimizers.clip_radagrad_norm,
        "optimizer",
        "g' = min(1, c/n) g, x <- x - eta g'/b, b^2 <- b^2 + w n'^2",
        CHEZHEGOV,
        {"learning_rate": 0.1, "threshold": 1.0, "reweight": 0.25},
    ),
    entry(
        "clip_adagrad",
        optimizers.clip_adagrad,
        "optimizer",
        "g' = clip(g, c), b^2 <- b^2 + g'^2, x <- x - eta g'/b, entry by entry",
        CHEZHEGOV,
        {"learning_rate": 0.1, "threshold": 1.0},
        static_args=("clip", "delay"),
        variants={"delayed_clip_adagrad": {"delay": 1}},
    ),
    entry(
        "clip_adam",
        optimizers.clip_adam,
        "optimizer",
        "g' = clip(g, c), b^2 <- b2 b^2 + (1 - b2) g'^2, m <- b1 m + (1 - b1) g', "
        "x <- x - eta m/b, entry by entry",
        CHEZHEGOV,
        {"learning_rate": 0.1, "threshold": 1.0},
        static_args=("clip", "delay"),
        variants={"delayed_clip_adam": {"delay": 1}},
    ),
    entry(
        "mixed_clip_sgd",
        optimizers.mixed_clip_sgd,
        "optimizer",
        "m <- b m + (1 - b) g, x <- x - nu min(eta, G/|m|) m - (1 - nu) min(eta, G/n) g",
        MIXED,
        {"learning_rate": 0.1, "max_step": 0.1},
        static_args=("response",),
        verdict=DIES,
    ),
    entry(
        "momentum_clip_sgd",
        optimizers.momentum_clip_sgd,
        "optimizer",
        "m <- b m + (1 - b) g, x <- x - min(eta, G/|m|) m",
        MIXED,
        {"learning_rate": 0.1, "max_step": 0.1},
        static_args=("response",),
        verdict=DIES,
    ),
    entry(
        "clip_normalized_momentum",
        optimizers.clip_normalized_momentum,
        "optimizer",
        "m <- b m + (1 - b) min(1, c/n) g, x <- x - eta m/|m|",
        ("Cutkosky & Mehta 2021", "2106.14343"),
        {"learning_rate": 0.1, "threshold": 1.0},
    ),
    entry(
        "normalized_momentum",
        optimizers.normalized_momentum,
        "optimizer",
        "m <- b m + (1 - b) g, x <- x - eta m/|m|",
        ("Cutkosky & Mehta 2020", "2002.03305"),
        {"learning_rate": 0.1},
        # Steps of the usual size, but in the direction of the huge gradient.
        verdict=DIES,
    ),
    entry(
        "clipped_sstm",
        optimizers.clipped_sstm,
        "optimizer",
        "alpha = (k + 2)/(2 a L), z <- z - alpha min(1, B/(alpha n)) g, y and x averages",
        ("Gorbunov, Danilova & Gasnikov 2020", "2005.10785"),
        {"smoothness": 1.0, "a": 1.0, "clip_constant": 1.0},
    ),
    entry(
        "acclip",
        optimizers.acclip,
        "optimizer",
        "m <- b1 m + (1 - b1) g, tau <- b2 tau + (1 - b2) |g|, "
        "x <- x - eta min(1, tau/(|m| + eps)) m, entry by entry",
        ("Zhang et al. 2020", "1912.03194"),
        {"learning_rate": 0.1},
        verdict=DIES,
    ),
)
