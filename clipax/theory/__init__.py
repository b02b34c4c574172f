"""Parameters from theorems: from a problem's constants to the arguments of an optimizer.

Each function takes what a theorem assumes (smoothness, distance, noise, horizon, ...) and gives a
tuple whose `_asdict()` are keyword arguments of the optimizer that its name begins with:
`clipax.clip_sgd(**clipax.theory.clip_sgd_smooth(l0=1.0, l1=1.0)._asdict())`. Plain Python numbers
throughout.

Beside them stand the dynamics of clipped SGD on streaming least squares: `homogenized_risk` and the
functions it is made of, which take a law of the labels' noise such as `gaussian_noise(1.0)`.
"""

from clipax.theory._chezhegov2024 import clip_radagrad_norm_convex
from clipax.theory._chezhegov2025 import clip_adagrad_norm_convex, clip_adam_norm_convex
from clipax.theory._chezhegov2025_nonconvex import (
    clip_adagrad_norm_nonconvex,
    clip_adam_norm_nonconvex,
)
from clipax.theory._clipping_schedules import (
    ClippingSchedule,
    max_ccc_schedule,
    proportional_schedule,
)
from clipax.theory._comparison import clipping_comparison, clipping_stability, max_ccc_threshold
from clipax.theory._cutkosky2021 import clip_normalized_momentum_nonconvex
from clipax.theory._dynamics import homogenized_paths, homogenized_risk
from clipax.theory._koloskova2023 import clip_sgd_any_threshold, clipping_bias
from clipax.theory._label_noise import (
    cauchy_noise,
    empirical_noise,
    gaussian_noise,
    laplace_noise,
    mixture_noise,
    rademacher_noise,
    student_t_noise,
    uniform_noise,
)
from clipax.theory._parameters import (
    ClipAdagradNormParameters,
    ClipAdamNormParameters,
    ClipNormalizedMomentumParameters,
    ClipRadagradNormParameters,
    ClipSgdParameters,
    ClipSgdSchedules,
    NormalizedSgdParameters,
    OffsetClipSgdParameters,
    SgdParameters,
)
from clipax.theory._quantile2024 import quantile_clipping_bias
from clipax.theory._reduction_factors import LabelNoise, ReductionFactors, reduction_factors
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
    "ClipSgdSchedules",
    "ClippingSchedule",
    "LabelNoise",
    "NormalizedSgdParameters",
    "OffsetClipSgdParameters",
    "ReductionFactors",
    "SgdParameters",
    "cauchy_noise",
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
    "clipping_comparison",
    "clipping_stability",
    "empirical_noise",
    "gaussian_noise",
    "homogenized_paths",
    "homogenized_risk",
    "laplace_noise",
    "max_ccc_schedule",
    "max_ccc_threshold",
    "mixture_noise",
    "normalized_sgd_tight",
    "proportional_schedule",
    "quantile_clipping_bias",
    "rademacher_noise",
    "reduction_factors",
    "sgd_smooth",
    "student_t_noise",
    "uniform_noise",
]
