"""Laws of the labels' noise beside those of SciPy, and points at which factors are compared."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from clipax.theory import dynamics

LAWS = {
    "gaussian": (dynamics.gaussian_noise(5.0), stats.norm(scale=5)),
    "laplace": (dynamics.laplace_noise(5.0), stats.laplace(scale=5 / math.sqrt(2))),
    "uniform": (dynamics.uniform_noise(5.0), stats.uniform(-5 * 3**0.5, 10 * 3**0.5)),
    "t3": (dynamics.student_t_noise(3.0, 5.0), stats.t(3, scale=5)),
    "cauchy": (dynamics.cauchy_noise(5.0), stats.cauchy(scale=5)),
    "rademacher": (
        dynamics.rademacher_noise(5.0, 0.2),
        {-math.sqrt(125): 0.1, 0.0: 0.8, math.sqrt(125): 0.1},
    ),
}
# Noise much larger and much smaller than the signal, thresholds that clip all or nearly nothing.
GRID_RISKS = np.array([0.0, 0.02, 3.0, 3.0, 3.0, 400.0])
GRID_THRESHOLDS = np.array([6.0, 3.0, 0.2, 4.0, 30.0, 5.0])
