"""Laws of gradient noise: pure functions of random words, or of a key and a shape.

Each constructor gives a `Law`, which knows its mean, variance and tail index.
"""

from clipax.lab.noise._law import Law
from clipax.lab.noise._parse import LAWS, Noise, parse_noise
from clipax.lab.noise._skewed import (
    burr,
    chi_square,
    exponential,
    skewed_pareto,
    two_point,
    weibull,
)
from clipax.lab.noise._stable import alpha_stable
from clipax.lab.noise._symmetric import (
    cauchy,
    gaussian,
    laplace,
    pareto,
    rademacher_like,
    student_t,
    uniform,
)

__all__ = [
    "LAWS",
    "Law",
    "Noise",
    "alpha_stable",
    "burr",
    "cauchy",
    "chi_square",
    "exponential",
    "gaussian",
    "laplace",
    "pareto",
    "parse_noise",
    "rademacher_like",
    "skewed_pareto",
    "student_t",
    "two_point",
    "uniform",
    "weibull",
]
