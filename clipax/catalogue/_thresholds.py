"""Entries of `clipax.thresholds`."""

from __future__ import annotations

from clipax import thresholds
from clipax.catalogue._entry import entry
from clipax.catalogue._sources import MARSHALL, MERAD

__all__ = ["ENTRIES"]

ENTRIES = (
    entry(
        "thresholds.power",
        thresholds.power,
        "threshold",
        "c_t = sigma * t^(1/(2 alpha)), 1/alpha or 1/(3 alpha - 2)",
        ("Sadiev et al. 2023; Nguyen et al. 2023", "2302.00999"),
        {"sigma": 1.0, "alpha": 1.5},
    ),
    entry(
        "thresholds.quantile",
        thresholds.quantile,
        "threshold",
        "c_t = the ceil(p S)-th smallest of the last S norms",
        MERAD,
        {"quantile": 0.75, "window": 30},
        static_args=("window",),
    ),
    entry(
        "thresholds.geometric_quantile",
        thresholds.geometric_quantile,
        "threshold",
        "c_(t+1) = c_t exp(-eta (b - q)), b = share of the norms within c_t",
        ("Andrew et al. 2021", "1905.03871"),
        {"quantile": 0.5, "initial": 1.0},
        static_args=("seed",),
    ),
    entry(
        "thresholds.rms_of_norms",
        thresholds.rms_of_norms,
        "threshold",
        "c_t = kappa R_t, R_t^2 = EMA of n^2",
        MARSHALL,
        {"kappa": 0.9},
    ),
    entry(
        "thresholds.max_ccc",
        thresholds.max_ccc,
        "threshold",
        "c_t = argmax_c (share within c)^2 mean n^2 / mean min(n^2, c^2)",
        MARSHALL,
        {"window": 30},
        static_args=("window", "compensate"),
    ),
    entry(
        "thresholds.anytime",
        thresholds.anytime,
        "threshold",
        "c_t = sigma (2t (1 + ln t)^2)^(1/(3 alpha - 2)), sigma (52t (1 + ln t)^2/gamma)^(1/alpha)",
        ("Nguyen et al. 2023", "2304.01119"),
        {"sigma": 1.0, "alpha": 1.5},
    ),
    entry(
        "thresholds.fixed_horizon",
        thresholds.fixed_horizon,
        "threshold",
        "c = R/(a eta ln(4(K + 1)/delta))",
        ("Sadiev et al. 2023", "2302.00999"),
        {"radius": 1.0, "learning_rate": 0.01, "steps": 200, "failure_probability": 0.05},
        static_args=("steps",),
    ),
)
