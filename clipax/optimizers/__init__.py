"""Full optimizers: chains of `clipax.transforms` and optax, one file a paper."""

from clipax.optimizers._chezhegov2025 import clip_adagrad_norm, clip_adam_norm, clip_radagrad_norm
from clipax.optimizers._chezhegov2025_coordinate import clip_adagrad, clip_adam
from clipax.optimizers._cutkosky2021 import clip_normalized_momentum, normalized_momentum
from clipax.optimizers._gorbunov2020 import clipped_sstm, clipped_sstm_eval_params
from clipax.optimizers._marshall2025 import max_ccc_sgd
from clipax.optimizers._pethick2025 import ggnc
from clipax.optimizers._quantile2024 import quantile_clip_sgd
from clipax.optimizers._tucat2025 import regularized_clip_sgd
from clipax.optimizers._zhang2020 import clip_sgd, normalized_sgd
from clipax.optimizers._zhang2020_attention import acclip
from clipax.optimizers._zhang2020_mixed import mixed_clip_sgd, momentum_clip_sgd

__all__ = [
    "acclip",
    "clip_adagrad",
    "clip_adagrad_norm",
    "clip_adam",
    "clip_adam_norm",
    "clip_normalized_momentum",
    "clip_radagrad_norm",
    "clip_sgd",
    "clipped_sstm",
    "clipped_sstm_eval_params",
    "ggnc",
    "max_ccc_sgd",
    "mixed_clip_sgd",
    "momentum_clip_sgd",
    "normalized_momentum",
    "normalized_sgd",
    "quantile_clip_sgd",
    "regularized_clip_sgd",
]
