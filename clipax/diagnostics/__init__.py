"""Diagnostics: what the norms of a run say about its noise and about where to clip.

`clipax.monitor_norms` and the thresholds that remember all norms collect; these functions read.
"""

from clipax.diagnostics._advise import Advice, advise
from clipax.diagnostics._tail_index import norm_quantiles, tail_index

__all__ = ["Advice", "advise", "norm_quantiles", "tail_index"]
