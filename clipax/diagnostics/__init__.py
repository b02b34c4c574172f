"""Diagnostics: noise, smoothness and a good threshold, from the norms and gradients of a run.

`advise`, `tail_index` and `norm_quantiles` read the norms that `clipax.monitor_norms` and some
thresholds remember. `local_smoothness` and `gradient_noise` compute further gradients: along the
path, and at one point.
"""

from clipax.diagnostics._advise import Advice as Advice
from clipax.diagnostics._advise import advise as advise
from clipax.diagnostics._noise_tail import TailShares as TailShares
from clipax.diagnostics._noise_tail import gradient_noise as gradient_noise
from clipax.diagnostics._noise_tail import tail_shares as tail_shares
from clipax.diagnostics._smoothness import LocalSmoothness as LocalSmoothness
from clipax.diagnostics._smoothness import SmoothnessRecorder as SmoothnessRecorder
from clipax.diagnostics._smoothness import local_smoothness as local_smoothness
from clipax.diagnostics._smoothness_fit import SmoothnessFit as SmoothnessFit
from clipax.diagnostics._smoothness_fit import fit_smoothness as fit_smoothness
from clipax.diagnostics._tail_index import norm_quantiles as norm_quantiles
from clipax.diagnostics._tail_index import tail_index as tail_index
