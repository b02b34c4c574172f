"""The dynamics of clipped SGD on streaming least squares in high dimensions.

`homogenized_risk` predicts the risk from the spectrum of the features and a law of the labels'
noise such as `gaussian_noise(1.0)`; `reduction_factors`, the comparison criterion and the schedules
are computed from the same law.
"""

from clipax.theory.dynamics._comparison import (
    clipping_comparison,
    clipping_stability,
    max_ccc_threshold,
)
from clipax.theory.dynamics._label_noise import (
    cauchy_noise,
    empirical_noise,
    gaussian_noise,
    laplace_noise,
    mixture_noise,
    rademacher_noise,
    student_t_noise,
    uniform_noise,
)
from clipax.theory.dynamics._reduction_factors import (
    LabelNoise,
    ReductionFactors,
    reduction_factors,
)
from clipax.theory.dynamics._risk import homogenized_paths, homogenized_risk
from clipax.theory.dynamics._schedules import (
    ClippingSchedule,
    ClipSgdSchedules,
    max_ccc_schedule,
    proportional_schedule,
)

__all__ = [
    "ClipSgdSchedules",
    "ClippingSchedule",
    "LabelNoise",
    "ReductionFactors",
    "cauchy_noise",
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
    "proportional_schedule",
    "rademacher_noise",
    "reduction_factors",
    "student_t_noise",
    "uniform_noise",
]
