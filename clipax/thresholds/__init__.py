"""Thresholds: functions from norms to the norm at which a clip bites.

Wherever a method takes a threshold, a number, an `optax.Schedule` (called with the 0-based step
count) or a `Threshold` will do. Schedules know the time alone; a `Threshold` may remember norms.
"""

from clipax.thresholds._anytime import anytime, fixed_horizon
from clipax.thresholds._base import Context, Threshold, as_threshold
from clipax.thresholds._ema import ema
from clipax.thresholds._geometric_quantile import (
    GeometricQuantileState,
    geometric_quantile,
    noise_split,
)
from clipax.thresholds._max_ccc import max_ccc
from clipax.thresholds._median import median
from clipax.thresholds._per_entry import per_entry
from clipax.thresholds._percentile import percentile
from clipax.thresholds._power import power
from clipax.thresholds._quantile import increasing_quantile, quantile
from clipax.thresholds._relative import relative
from clipax.thresholds._rms import rms
from clipax.thresholds._tail_power import tail_power
from clipax.thresholds._zscore import zscore

__all__ = [
    "Context",
    "GeometricQuantileState",
    "Threshold",
    "anytime",
    "as_threshold",
    "ema",
    "fixed_horizon",
    "geometric_quantile",
    "increasing_quantile",
    "max_ccc",
    "median",
    "noise_split",
    "per_entry",
    "percentile",
    "power",
    "quantile",
    "relative",
    "rms",
    "tail_power",
    "zscore",
]
