"""Gradient clipping for JAX: composable, fast `optax` gradient transformations.

Measure once, decide on a few numbers, apply once: a gradient is read once for its norms, all
methods in a chain decide on the norms, and the gradient is multiplied once.
"""

from importlib.metadata import PackageNotFoundError, version

from clipax import (
    diagnostics,
    norms,
    optimizers,
    per_example,
    scopes,
    testing,
    theory,
    thresholds,
    transforms,
)
from clipax.diagnostics import advise
from clipax.measure import global_norm
from clipax.metrics import block_names, metrics
from clipax.optimizers import (
    acclip,
    clip_adagrad,
    clip_adagrad_norm,
    clip_adam,
    clip_adam_norm,
    clip_normalized_momentum,
    clip_radagrad_norm,
    clip_sgd,
    clipped_sstm,
    clipped_sstm_eval_params,
    ggnc,
    max_ccc_sgd,
    mixed_clip_sgd,
    momentum_clip_sgd,
    normalized_momentum,
    normalized_sgd,
    quantile_clip_sgd,
    regularized_clip_sgd,
    spam,
    stable_adamw,
    stable_spam,
)
from clipax.per_example import clipped_grad, clipped_value_and_grad
from clipax.thresholds import power as power_threshold
from clipax.transforms import (
    clip_by_block_rms,
    clip_by_ema_norm,
    clip_by_global_norm,
    clip_by_group_norm,
    clip_by_leaf_norm,
    clip_by_median_norm,
    clip_by_param_norm,
    clip_by_percentile,
    clip_by_regularized_norm,
    clip_by_singular_values,
    clip_by_smooth_norm,
    clip_by_value,
    clip_by_zscore,
    delay_updates,
    monitor_norms,
    normalize_by_global_norm,
    scale_by_adagrad_norm,
    scale_by_adam_norm,
    scale_by_norm,
    skip_nonfinite,
    skip_spikes,
    with_error_feedback,
)

from clipax import catalogue  # isort: skip  (last: it lists all of the above)

try:
    __version__ = version("clipax")
except PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0.0.0"

__all__ = [
    "acclip",
    "advise",
    "block_names",
    "catalogue",
    "clip_adagrad",
    "clip_adagrad_norm",
    "clip_adam",
    "clip_adam_norm",
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
    "clip_normalized_momentum",
    "clip_radagrad_norm",
    "clip_sgd",
    "clipped_grad",
    "clipped_sstm",
    "clipped_sstm_eval_params",
    "clipped_value_and_grad",
    "delay_updates",
    "diagnostics",
    "ggnc",
    "global_norm",
    "max_ccc_sgd",
    "metrics",
    "mixed_clip_sgd",
    "momentum_clip_sgd",
    "monitor_norms",
    "normalize_by_global_norm",
    "normalized_momentum",
    "normalized_sgd",
    "norms",
    "optimizers",
    "per_example",
    "power_threshold",
    "quantile_clip_sgd",
    "regularized_clip_sgd",
    "scale_by_adagrad_norm",
    "scale_by_adam_norm",
    "scale_by_norm",
    "scopes",
    "skip_nonfinite",
    "skip_spikes",
    "spam",
    "stable_adamw",
    "stable_spam",
    "testing",
    "theory",
    "thresholds",
    "transforms",
    "with_error_feedback",
]
