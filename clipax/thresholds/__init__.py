"""Thresholds: functions from norms to the norm at which a clip bites.

Wherever a method takes a threshold, a number, an `optax.Schedule` (called with the 0-based step
count) or a `Threshold` will do. Schedules know the time alone; a `Threshold` may remember norms.
"""

from clipax.thresholds._base import Context, Threshold, as_threshold
from clipax.thresholds._power import power

__all__ = ["Context", "Threshold", "as_threshold", "power"]
