"""Thresholds: functions from norms to the norm at which a clip bites.

Wherever a method takes a threshold, a number, an `optax.Schedule` (called with the 0-based step
count) or a `Threshold` will do. Schedules know the time alone; a `Threshold` may remember norms,
but neither those that are not finite nor those that are zero, which say nothing of their size.
"""

from clipax.thresholds._anytime import anytime as anytime
from clipax.thresholds._anytime import fixed_horizon as fixed_horizon
from clipax.thresholds._base import Context as Context
from clipax.thresholds._base import Threshold as Threshold
from clipax.thresholds._base import TimedState as TimedState
from clipax.thresholds._base import as_threshold as as_threshold
from clipax.thresholds._block_rms import block_rms as block_rms
from clipax.thresholds._deviation import deviation as deviation
from clipax.thresholds._ema import ema as ema
from clipax.thresholds._geometric_quantile import GeometricQuantileState as GeometricQuantileState
from clipax.thresholds._geometric_quantile import geometric_quantile as geometric_quantile
from clipax.thresholds._max_ccc import max_ccc as max_ccc
from clipax.thresholds._median import median as median
from clipax.thresholds._percentile import percentile as percentile
from clipax.thresholds._power import power as power
from clipax.thresholds._quantile import quantile as quantile
from clipax.thresholds._quantile import quantile_schedule as quantile_schedule
from clipax.thresholds._relative import relative as relative
from clipax.thresholds._rms_of_norms import rms_of_norms as rms_of_norms
from clipax.thresholds._tail_power import tail_power as tail_power
from clipax.thresholds._zscore import zscore as zscore
