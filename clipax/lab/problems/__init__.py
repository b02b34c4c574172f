"""Test problems: objectives with exact gradients and constants that theorems ask for."""

from clipax.lab.problems._libsvm import load_libsvm
from clipax.lab.problems._logistic import LogisticRegression, logistic_regression
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
from clipax.lab.problems._streaming import StreamingLeastSquares, streaming_least_squares
from clipax.lab.problems._two_point import TwoPointNoise, two_point_bias

__all__ = [
    "LogisticRegression",
    "Problem",
    "StreamingLeastSquares",
    "TwoPointNoise",
    "cosh",
    "huber",
    "huber_counterexample",
    "ill_conditioned_quadratic",
    "l0l1_quartic",
    "load_libsvm",
    "logistic_regression",
    "quadratic",
    "quartic",
    "streaming_least_squares",
    "two_point_bias",
    "wide_least_squares",
]
