"""Gradient transformations: links of an `optax.chain`."""

from clipax.transforms._clip import clip_by_global_norm as clip_by_global_norm
from clipax.transforms._clip import clip_by_leaf_norm as clip_by_leaf_norm
from clipax.transforms._clip import clip_by_regularized_norm as clip_by_regularized_norm
from clipax.transforms._clip import clip_by_smooth_norm as clip_by_smooth_norm
from clipax.transforms._clip_adaptive import clip_by_ema as clip_by_ema
from clipax.transforms._clip_adaptive import clip_by_median as clip_by_median
from clipax.transforms._clip_adaptive import clip_by_quantile as clip_by_quantile
from clipax.transforms._clip_adaptive import clip_by_zscore as clip_by_zscore
from clipax.transforms._clip_by_block_rms import clip_by_block_rms as clip_by_block_rms
from clipax.transforms._clip_by_group_norm import clip_by_group_norm as clip_by_group_norm
from clipax.transforms._clip_by_lp_norm import clip_by_lp_norm as clip_by_lp_norm
from clipax.transforms._clip_by_param_norm import clip_by_param_norm as clip_by_param_norm
from clipax.transforms._clip_by_percentile import clip_by_percentile as clip_by_percentile
from clipax.transforms._clip_by_singular_values import (
    clip_by_singular_values as clip_by_singular_values,
)
from clipax.transforms._clip_by_value import ClipByValueState as ClipByValueState
from clipax.transforms._clip_by_value import clip_by_value as clip_by_value
from clipax.transforms._delay_updates import DelayUpdatesState as DelayUpdatesState
from clipax.transforms._delay_updates import delay_updates as delay_updates
from clipax.transforms._monitor_norms import MonitorNormsState as MonitorNormsState
from clipax.transforms._monitor_norms import monitor_norms as monitor_norms
from clipax.transforms._normalize_by_global_norm import (
    normalize_by_global_norm as normalize_by_global_norm,
)
from clipax.transforms._scale_by_adam_norm import scale_by_adagrad_norm as scale_by_adagrad_norm
from clipax.transforms._scale_by_adam_norm import scale_by_adam_norm as scale_by_adam_norm
from clipax.transforms._scale_by_norm import ScaleByNormState as ScaleByNormState
from clipax.transforms._scale_by_norm import scale_by_norm as scale_by_norm
from clipax.transforms._skip_nonfinite import SkipNonfiniteState as SkipNonfiniteState
from clipax.transforms._skip_nonfinite import skip_nonfinite as skip_nonfinite
from clipax.transforms._skip_spikes import SkipSpikesState as SkipSpikesState
from clipax.transforms._skip_spikes import skip_spikes as skip_spikes
from clipax.transforms._with_error_feedback import ErrorFeedbackState as ErrorFeedbackState
from clipax.transforms._with_error_feedback import with_error_feedback as with_error_feedback
