"""Gradient transformations: links of an `optax.chain`."""

from clipax.transforms._adaptive_norm import scale_by_adagrad_norm, scale_by_adam_norm
from clipax.transforms._clip import (
    clip_by_global_norm,
    clip_by_leaf_norm,
    clip_by_regularized_norm,
    clip_by_smooth_norm,
)
from clipax.transforms._clip_adaptive import (
    clip_by_ema_norm,
    clip_by_median_norm,
    clip_by_zscore,
)
from clipax.transforms._clip_by_block_rms import clip_by_block_rms
from clipax.transforms._clip_by_group_norm import clip_by_group_norm
from clipax.transforms._clip_by_param_norm import clip_by_param_norm
from clipax.transforms._clip_by_percentile import clip_by_percentile
from clipax.transforms._clip_by_singular_values import clip_by_singular_values
from clipax.transforms._clip_by_value import ClipByValueState, clip_by_value
from clipax.transforms._delay_updates import DelayUpdatesState, delay_updates
from clipax.transforms._error_feedback import ErrorFeedbackState, with_error_feedback
from clipax.transforms._monitor_norms import monitor_norms
from clipax.transforms._normalize import normalize_by_global_norm
from clipax.transforms._scale_by_norm import ScaleByNormState, scale_by_norm
from clipax.transforms._skip_nonfinite import SkipNonfiniteState, skip_nonfinite
from clipax.transforms._skip_spikes import SkipSpikesState, skip_spikes

__all__ = [
    "ClipByValueState",
    "DelayUpdatesState",
    "ErrorFeedbackState",
    "ScaleByNormState",
    "SkipNonfiniteState",
    "SkipSpikesState",
    "clip_by_block_rms",
    "clip_by_ema_norm",
    "clip_by_global_norm",
    "clip_by_group_norm",
    "clip_by_leaf_norm",
    "clip_by_median_norm",
    "clip_by_param_norm",
    "clip_by_percentile",
    "clip_by_regularized_norm",
    "clip_by_singular_values",
    "clip_by_smooth_norm",
    "clip_by_value",
    "clip_by_zscore",
    "delay_updates",
    "monitor_norms",
    "normalize_by_global_norm",
    "scale_by_adagrad_norm",
    "scale_by_adam_norm",
    "scale_by_norm",
    "skip_nonfinite",
    "skip_spikes",
    "with_error_feedback",
]
