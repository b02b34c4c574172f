"""Full optimizers: chains of `clipax.transforms` and optax, one file a paper."""

from clipax.optimizers._chezhegov2025 import clip_adagrad_norm, clip_adam_norm
from clipax.optimizers._tucat2025 import regularized_clip_sgd
from clipax.optimizers._zhang2020 import clip_sgd, normalized_sgd

__all__ = [
    "clip_adagrad_norm",
    "clip_adam_norm",
    "clip_sgd",
    "normalized_sgd",
    "regularized_clip_sgd",
]
