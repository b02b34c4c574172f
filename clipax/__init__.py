"""Gradient clipping for JAX: composable, fast `optax` gradient transformations.

Measure once, decide on a few numbers, apply once: a gradient is read once for its norms, all
methods in a chain decide on the norms, and the gradient is multiplied once.
"""

from importlib.metadata import PackageNotFoundError, version

from clipax import norms, optimizers, scopes, thresholds, transforms
from clipax.measure import global_norm
from clipax.metrics import block_names, metrics
from clipax.optimizers import (
    clip_adagrad_norm,
    clip_adam_norm,
    clip_sgd,
    normalized_sgd,
    regularized_clip_sgd,
)
from clipax.thresholds import power as power_threshold
from clipax.transforms import (
    clip_by_global_norm,
    clip_by_leaf_norm,
    clip_by_regularized_norm,
    clip_by_smooth_norm,
    clip_by_value,
    delay_updates,
    normalize_by_global_norm,
    scale_by_adagrad_norm,
    scale_by_adam_norm,
    scale_by_norm,
    skip_nonfinite,
)

from clipax import catalogue  # isort: skip  (last: it lists all of the above)

try:
    __version__ = version("clipax")
except PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0.0.0"

__all__ = [
    "block_names",
    "catalogue",
    "clip_adagrad_norm",
    "clip_adam_norm",
    "clip_by_global_norm",
    "clip_by_leaf_norm",
    "clip_by_regularized_norm",
    "clip_by_smooth_norm",
    "clip_by_value",
    "clip_sgd",
    "delay_updates",
    "global_norm",
    "metrics",
    "normalize_by_global_norm",
    "normalized_sgd",
    "norms",
    "optimizers",
    "power_threshold",
    "regularized_clip_sgd",
    "scale_by_adagrad_norm",
    "scale_by_adam_norm",
    "scale_by_norm",
    "scopes",
    "skip_nonfinite",
    "thresholds",
    "transforms",
]
