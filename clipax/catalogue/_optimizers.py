"""Entries of `clipax.optimizers`, sorted by name."""

from __future__ import annotations

from clipax import optimizers
from clipax.catalogue._entry import DIES, Entry

__all__ = ["ENTRIES"]

_SUMS_STEPS = (
    "steps grow with time and all of them are summed up: an early one that is missing or clipped "
    "is felt for hundreds of steps, but weighs ever less"
)

ENTRIES = (
    Entry(
        "acclip",
        optimizers.acclip,
        "optimizer",
        "m <- b1 m + (1 - b1) g, tau <- b2 tau + (1 - b2) |g|, "
        "x <- x - eta min(1, tau/(|m| + eps)) m, entry by entry",
        ("zhang2020_attention",),
        {"learning_rate": 0.1},
        verdict=DIES,
    ),
    Entry(
        "clip_adagrad",
        optimizers.clip_adagrad,
        "optimizer",
        "g' = clip(g, c), b^2 <- b^2 + g'^2, x <- x - eta g'/b, entry by entry",
        ("chezhegov2025",),
        {"learning_rate": 0.1, "threshold": 1.0},
        static_args=("clip", "delay"),
        variants={"delayed_clip_adagrad": {"delay": 1}},
    ),
    Entry(
        "clip_adagrad_norm",
        optimizers.clip_adagrad_norm,
        "optimizer",
        "g' = min(1, c/n) g, b^2 <- b^2 + n'^2, x <- x - eta g'/b",
        ("chezhegov2025",),
        {"learning_rate": 0.1, "threshold": 1.0},
        static_args=("delay",),
        variants={"delayed_clip_adagrad_norm": {"delay": 1}},
    ),
    Entry(
        "clip_adam",
        optimizers.clip_adam,
        "optimizer",
        "g' = clip(g, c), b^2 <- b2 b^2 + (1 - b2) g'^2, m <- b1 m + (1 - b1) g', "
        "x <- x - eta m/b, entry by entry",
        ("chezhegov2025",),
        {"learning_rate": 0.1, "threshold": 1.0},
        static_args=("clip", "delay"),
        variants={"delayed_clip_adam": {"delay": 1}},
    ),
    Entry(
        "clip_adam_norm",
        optimizers.clip_adam_norm,
        "optimizer",
        "g' = min(1, c/n) g, b^2 <- b2 b^2 + (1 - b2) n'^2, m <- b1 m + (1 - b1) g', "
        "x <- x - eta m/b",
        ("chezhegov2025",),
        {"learning_rate": 0.1, "threshold": 1.0},
        static_args=("delay",),
        variants={"delayed_clip_adam_norm": {"delay": 1}},
    ),
    Entry(
        "clip_normalized_momentum",
        optimizers.clip_normalized_momentum,
        "optimizer",
        "m <- b m + (1 - b) min(1, c/n) g, x <- x - eta m/|m|",
        ("cutkosky2021",),
        {"learning_rate": 0.1, "threshold": 1.0},
    ),
    Entry(
        "clip_radagrad_norm",
        optimizers.clip_radagrad_norm,
        "optimizer",
        "g' = min(1, c/n) g, x <- x - eta g'/b, b^2 <- b^2 + w n'^2",
        ("chezhegov2025",),
        {"learning_rate": 0.1, "threshold": 1.0, "reweight": 0.25},
    ),
    Entry(
        "clip_sgd",
        optimizers.clip_sgd,
        "optimizer",
        "x <- x - eta min(1, c/n) g",
        ("zhang2020",),
        {"learning_rate": 0.1, "threshold": 1.0},
        static_args=("scope",),
    ),
    Entry(
        "clipped_sstm",
        optimizers.clipped_sstm,
        "optimizer",
        "alpha = (k + 2)/(2 a L), z <- z - alpha min(1, B/(alpha n)) g, y and x averages",
        ("gorbunov2020",),
        {"smoothness": 1.0, "a": 1.0, "clip_constant": 1.0},
        lasting={
            "constant_norms": _SUMS_STEPS,
            "frozen": _SUMS_STEPS,
        },
    ),
    Entry(
        "ggnc",
        optimizers.ggnc,
        "optimizer",
        "m <- b m + (1 - b) g, x <- x + eta min(rho, <m, -v>) v, v = argmin_(|v| <= 1) <m, v>",
        ("pethick2025",),
        {"learning_rate": 0.1, "radius": 1.0},
        static_args=("method", "norm", "scope"),
        verdict=DIES,
    ),
    Entry(
        "max_ccc_sgd",
        optimizers.max_ccc_sgd,
        "optimizer",
        "x <- x - eta/F(c) min(1, c/n) g, c = argmax_c F(c)^2 mean n^2 / mean min(n^2, c^2)",
        ("marshall2025",),
        {"learning_rate": 0.1, "window": 30},
        static_args=("window",),
    ),
    Entry(
        "mixed_clip_sgd",
        optimizers.mixed_clip_sgd,
        "optimizer",
        "m <- b m + (1 - b) g, x <- x - nu min(eta, G/|m|) m - (1 - nu) min(eta, G/n) g",
        ("zhang2020_mixed",),
        {"learning_rate": 0.1, "max_step": 0.1},
        static_args=("response",),
        verdict=DIES,
    ),
    Entry(
        "momentum_clip_sgd",
        optimizers.momentum_clip_sgd,
        "optimizer",
        "m <- b m + (1 - b) g, x <- x - min(eta, G/|m|) m",
        ("zhang2020_mixed",),
        {"learning_rate": 0.1, "max_step": 0.1},
        static_args=("response",),
        verdict=DIES,
    ),
    Entry(
        "normalized_momentum",
        optimizers.normalized_momentum,
        "optimizer",
        "m <- b m + (1 - b) g, x <- x - eta m/|m|",
        ("cutkosky2020",),
        {"learning_rate": 0.1},
        # Steps of the usual size, but in the direction of the huge gradient.
        verdict=DIES,
    ),
    Entry(
        "normalized_sgd",
        optimizers.normalized_sgd,
        "optimizer",
        "x <- x - eta/(n + eps) g",
        ("zhang2020",),
        {"learning_rate": 0.1, "eps": 1e-3},
    ),
    Entry(
        "quantile_clip_sgd",
        optimizers.quantile_clip_sgd,
        "optimizer",
        "x <- x - eta min(1, c_t/n) g, c_t = the ceil(p S)-th smallest of the last S norms",
        ("merad2024",),
        {"learning_rate": 0.1, "quantile": 0.75, "window": 30},
        static_args=("window",),
    ),
    Entry(
        "regularized_clip_sgd",
        optimizers.regularized_clip_sgd,
        "optimizer",
        "x <- x - eta min(1, max(delta, c/n)) (g + wd x)",
        ("tucat2025",),
        {"learning_rate": 0.1, "threshold": 1.0, "delta": 1e-3},
    ),
    Entry(
        "spam",
        optimizers.spam,
        "optimizer",
        "g' = sign(g) min(|g|, sqrt(theta v)), Adam on g', m and v reset every so many steps",
        ("huang2025",),
        {"learning_rate": 0.1, "theta": 50.0, "reset": 9, "warmup": 4, "clip_from": 2},
    ),
    Entry(
        "stable_adamw",
        optimizers.stable_adamw,
        "optimizer",
        "x <- x - eta/max(1, rms(g/max(s, eps))) m/(s + eps) for each leaf, "
        "m and s^2 averages of g and g^2",
        ("wortsman2023",),
        {"learning_rate": 0.1},
        verdict=DIES,
    ),
    Entry(
        "stable_spam",
        optimizers.stable_spam,
        "optimizer",
        "g' = g with entries above T = ema(max |g|) rescaled to it, "
        "g'' = g'/n' ema(n')/sqrt(ema(n'^2)), Adam on g'', reset every so many steps",
        ("huang2025_stable",),
        {"learning_rate": 0.1, "peak_decay": 0.9, "reset": 9},
        # The average of the largest entries takes in what it does not clip.
        verdict=DIES,
    ),
)
