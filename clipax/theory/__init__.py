"""Parameters from theorems: from a problem's constants to the arguments of an optimizer.

Each function takes the constants that a theorem assumes (smoothness, distance, noise, horizon, ...)
and returns a tuple whose `_asdict()` are keyword arguments of the optimizer that its name begins
with: `clipax.clip_sgd(**clipax.theory.clip_sgd_smooth(l0=1.0, l1=1.0)._asdict())`. All numbers are
plain Python numbers.

`clipax.theory.dynamics` predicts the risk of clipped SGD on streaming least squares.
"""

from clipax.theory import dynamics
from clipax.theory._chezhegov2025 import clip_adagrad_norm_convex, clip_adam_norm_convex
from clipax.theory._chezhegov2025_nonconvex import (
    clip_adagrad_norm_nonconvex,
    clip_adam_norm_nonconvex,
)
from clipax.theory._chezhegov2025_reweighted import clip_radagrad_norm_convex
from clipax.theory._cutkosky2021 import clip_normalized_momentum_nonconvex
from clipax.theory._koloskova2023 import clip_sgd_any_threshold, clipping_bias
from clipax.theory._merad2024 import quantile_clipping_bias
from clipax.theory._parameters import (
    ClipAdagradNormParameters,
    ClipAdamNormParameters,
    ClipNormalizedMomentumParameters,
    ClipRadagradNormParameters,
    ClipSgdParameters,
    NormalizedSgdParameters,
    OffsetClipSgdParameters,
    SgdParameters,
)
from clipax.theory._sadiev2023 import clip_sgd_convex
from clipax.theory._vankov2024 import clip_sgd_tight, normalized_sgd_tight
from clipax.theory._zhang2020 import (
    clip_sgd_bounded_noise,
    clip_sgd_practical,
    clip_sgd_smooth,
    sgd_smooth,
)

__all__ = [
    "ClipAdagradNormParameters",
    "ClipAdamNormParameters",
    "ClipNormalizedMomentumParameters",
    "ClipRadagradNormParameters",
    "ClipSgdParameters",
    "NormalizedSgdParameters",
    "OffsetClipSgdParameters",
    "SgdParameters",
    "clip_adagrad_norm_convex",
    "clip_adagrad_norm_nonconvex",
    "clip_adam_norm_convex",
    "clip_adam_norm_nonconvex",
    "clip_normalized_momentum_nonconvex",
    "clip_radagrad_norm_convex",
    "clip_sgd_any_threshold",
    "clip_sgd_bounded_noise",
    "clip_sgd_convex",
    "clip_sgd_practical",
    "clip_sgd_smooth",
    "clip_sgd_tight",
    "clipping_bias",
    "dynamics",
    "normalized_sgd_tight",
    "quantile_clipping_bias",
    "sgd_smooth",
]
