"""Entries of `clipax.thresholds`, sorted by name."""

from __future__ import annotations

from clipax import thresholds
from clipax.catalogue._entry import FOLLOWS_DOWN, Entry

__all__ = ["ENTRIES"]

ENTRIES = (
    Entry(
        "thresholds.anytime",
        thresholds.anytime,
        "threshold",
        "c_t = sigma (2t (1 + ln t)^2)^(1/(3 alpha - 2)), sigma (52t (1 + ln t)^2/gamma)^(1/alpha)",
        ("nguyen2023",),
        {"sigma": 1.0, "alpha": 1.5},
    ),
    Entry(
        "thresholds.ema",
        thresholds.ema,
        "threshold",
        "c_t = r gamma, gamma = EMA of the clipped norms",
        ("wang2025",),
        {"ratio": 1.05, "warmup": 10},
        lasting={"alternating": FOLLOWS_DOWN, "fall": FOLLOWS_DOWN},
    ),
    Entry(
        "thresholds.fixed_horizon",
        thresholds.fixed_horizon,
        "threshold",
        "c = R/(a eta ln(4(K + 1)/delta))",
        ("sadiev2023",),
        {"radius": 1.0, "learning_rate": 0.01, "steps": 200, "failure_probability": 0.05},
    ),
    Entry(
        "thresholds.geometric_quantile",
        thresholds.geometric_quantile,
        "threshold",
        "c_(t+1) = c_t exp(-eta (b - q)), b = share of the norms within c_t",
        ("andrew2021",),
        {"quantile": 0.5, "initial": 1.0},
    ),
    Entry(
        "thresholds.max_ccc",
        thresholds.max_ccc,
        "threshold",
        "c_t = argmax_c (share within c)^2 mean n^2 / mean min(n^2, c^2)",
        ("marshall2025",),
        {"window": 30},
        static_args=("window",),
    ),
    Entry(
        "thresholds.median",
        thresholds.median,
        "threshold",
        "c_t = s * median of the last S norms",
        ("yao2024",),
        {"scale": 2.0, "window": 30},
        static_args=("window",),
    ),
    Entry(
        "thresholds.percentile",
        thresholds.percentile,
        "threshold",
        "c_t = the ceil(p t/100)-th smallest of all t norms",
        ("seetharaman2020",),
        {"percentile": 40.0, "window": 30},
        static_args=("window",),
    ),
    Entry(
        "thresholds.power",
        thresholds.power,
        "threshold",
        "c_t = sigma * t^(1/(2 alpha)), 1/alpha or 1/(3 alpha - 2)",
        ("sadiev2023", "nguyen2023"),
        {"sigma": 1.0, "alpha": 1.5},
    ),
    Entry(
        "thresholds.quantile",
        thresholds.quantile,
        "threshold",
        "c_t = the ceil(p S)-th smallest of the last S norms",
        ("merad2024",),
        {"quantile": 0.75, "window": 30},
        static_args=("window",),
    ),
    Entry(
        "thresholds.relative",
        thresholds.relative,
        "threshold",
        "c = lambda max(norm of w, eps)",
        ("brock2021",),
        {"clipping": 0.5},
    ),
    Entry(
        "thresholds.rms_of_norms",
        thresholds.rms_of_norms,
        "threshold",
        "c_t = kappa R_t, R_t^2 = EMA of n^2",
        ("marshall2025",),
        {"kappa": 0.9},
    ),
    Entry(
        "thresholds.tail_power",
        thresholds.tail_power,
        "threshold",
        "c_t = median_t * t^p(alpha_t), alpha_t = Hill's estimate of the tail index",
        ("hill1975", "sadiev2023", "nguyen2023"),
        {"warmup": 20, "fraction": 0.1},
    ),
    Entry(
        "thresholds.zscore",
        thresholds.zscore,
        "threshold",
        "c_t = mu + (z^2/z_t) sigma where z_t = (n - mu)/sigma > z",
        ("kumar2025",),
        {"z": 1.5, "warmup": 5},
        static_args=("cut_to",),
    ),
)
