"""The dynamics of clipped SGD on streaming least squares in high dimensions.

`homogenized_risk` predicts the risk from the spectrum of the features and a law of the labels'
noise such as `gaussian_noise(1.0)`; `reduction_factors`, the comparison criterion and the schedules
are computed from the same law. An argument out of its range raises ValueError, one of another type
TypeError.
"""

from clipax.theory.dynamics._comparison import clipping_comparison as clipping_comparison
from clipax.theory.dynamics._comparison import clipping_stability as clipping_stability
from clipax.theory.dynamics._comparison import max_ccc_threshold as max_ccc_threshold
from clipax.theory.dynamics._label_noise import cauchy_noise as cauchy_noise
from clipax.theory.dynamics._label_noise import empirical_noise as empirical_noise
from clipax.theory.dynamics._label_noise import gaussian_noise as gaussian_noise
from clipax.theory.dynamics._label_noise import laplace_noise as laplace_noise
from clipax.theory.dynamics._label_noise import mixture_noise as mixture_noise
from clipax.theory.dynamics._label_noise import rademacher_noise as rademacher_noise
from clipax.theory.dynamics._label_noise import student_t_noise as student_t_noise
from clipax.theory.dynamics._label_noise import uniform_noise as uniform_noise
from clipax.theory.dynamics._reduction_factors import LabelNoise as LabelNoise
from clipax.theory.dynamics._reduction_factors import ReductionFactors as ReductionFactors
from clipax.theory.dynamics._reduction_factors import reduction_factors as reduction_factors
from clipax.theory.dynamics._risk import homogenized_paths as homogenized_paths
from clipax.theory.dynamics._risk import homogenized_risk as homogenized_risk
from clipax.theory.dynamics._schedules import ClippingSchedule as ClippingSchedule
from clipax.theory.dynamics._schedules import ClipSgdSchedules as ClipSgdSchedules
from clipax.theory.dynamics._schedules import max_ccc_schedule as max_ccc_schedule
from clipax.theory.dynamics._schedules import proportional_schedule as proportional_schedule
