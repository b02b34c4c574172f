"""Test problems: objectives with exact gradients and constants that theorems ask for."""

from clipax.lab.problems._problem import Problem
from clipax.lab.problems._quadratic import (
    ill_conditioned_quadratic,
    quadratic,
    wide_least_squares,
)
from clipax.lab.problems._scalar import (
    cosh,
    huber,
    huber_counterexample,
    l0l1_quartic,
    quartic,
)

__all__ = [
    "Problem",
    "cosh",
    "huber",
    "huber_counterexample",
    "ill_conditioned_quadratic",
    "l0l1_quartic",
    "quadratic",
    "quartic",
    "wide_least_squares",
]
