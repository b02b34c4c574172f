"""Entries of the thresholds that follow norms, as thresholds and as transformations."""

from __future__ import annotations

from clipax import thresholds, transforms
from clipax.catalogue._entry import entry

__all__ = ["ENTRIES"]

BROCK = ("Brock et al. 2021", "2102.06171")
KUMAR = ("Kumar et al. 2025", "2504.02507")
WANG = ("Wang et al. 2025", "2502.11034")
YAO = ("Yao et al. 2024", "2310.11230")

ENTRIES = (
    entry(
        "thresholds.zscore",
        thresholds.zscore,
        "threshold",
        "c_t = mu + (z^2/z_t) sigma where z_t = (n - mu)/sigma > z",
        KUMAR,
        {"z": 1.5, "warmup": 5},
        static_args=("warmup", "cut_to"),
    ),
    entry(
        "thresholds.ema",
        thresholds.ema,
        "threshold",
        "c_t = r gamma, gamma = EMA of the clipped norms",
        WANG,
        {"ratio": 1.05, "warmup": 10},
        static_args=("warmup",),
    ),
    entry(
        "thresholds.median",
        thresholds.median,
        "threshold",
        "c_t = s * median of the last S norms",
        YAO,
        {"scale": 2.0, "window": 30},
        static_args=("window",),
    ),
    entry(
        "thresholds.relative",
        thresholds.relative,
        "threshold",
        "c = lambda max(norm of w, eps)",
        BROCK,
        {"clipping": 0.5},
    ),
    entry(
        "clip_by_zscore",
        transforms.clip_by_zscore,
        "transformation",
        "u = min(1, (mu + (z^2/z_t) sigma)/n) g where z_t > z",
        KUMAR,
        {"z": 1.5, "warmup": 5},
        static_args=("warmup", "cut_to", "scope"),
    ),
    entry(
        "clip_by_ema",
        transforms.clip_by_ema,
        "transformation",
        "u_i = min(1, r gamma_i/n_i) g_i, gamma_i = EMA of the norm of u_i",
        WANG,
        {"ratio": 1.05, "warmup": 10},
        static_args=("warmup", "scope"),
    ),
    entry(
        "clip_by_median",
        transforms.clip_by_median,
        "transformation",
        "u = min(1, s m/n) g, m = median of the last S norms",
        YAO,
        {"scale": 2.0, "window": 30},
        static_args=("window", "scope"),
    ),
    entry(
        "clip_by_param_norm",
        transforms.clip_by_param_norm,
        "transformation",
        "u_i = min(1, lambda max(norm of w_i, eps)/n_i) g_i for each unit i",
        BROCK,
        {"clipping": 0.5},
        static_args=("exclude", "stacked", "scope"),
    ),
)
