"""Diagnostics: what the norms and gradients of a run say about its noise and where to clip.

`clipax.monitor_norms` and the thresholds that remember all norms collect; `advise`, `tail_index`
and `norm_quantiles` read. The others take gradients of their own: of the smoothness along the path,
and of the noise at a point.
"""

from clipax.diagnostics._advise import Advice, advise
from clipax.diagnostics._noise_tail import TailShares, gradient_noise, tail_shares
from clipax.diagnostics._smoothness import (
    LocalSmoothness,
    SmoothnessRecorder,
    local_smoothness,
)
from clipax.diagnostics._smoothness_fit import SmoothnessFit, fit_smoothness
from clipax.diagnostics._tail_index import norm_quantiles, tail_index

__all__ = [
    "Advice",
    "LocalSmoothness",
    "SmoothnessFit",
    "SmoothnessRecorder",
    "TailShares",
    "advise",
    "fit_smoothness",
    "gradient_noise",
    "local_smoothness",
    "norm_quantiles",
    "tail_index",
    "tail_shares",
]
