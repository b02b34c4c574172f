"""Test problems: objectives with exact gradients and constants that theorems ask for.

An argument out of its range, of another shape or not finite raises ValueError.
"""

from clipax.lab.problems._libsvm import load_libsvm as load_libsvm
from clipax.lab.problems._logistic import LogisticRegression as LogisticRegression
from clipax.lab.problems._logistic import logistic_regression as logistic_regression
from clipax.lab.problems._problem import Problem as Problem
from clipax.lab.problems._quadratic import ill_conditioned_quadratic as ill_conditioned_quadratic
from clipax.lab.problems._quadratic import quadratic as quadratic
from clipax.lab.problems._quadratic import wide_least_squares as wide_least_squares
from clipax.lab.problems._scalar import cosh as cosh
from clipax.lab.problems._scalar import huber as huber
from clipax.lab.problems._scalar import huber_counterexample as huber_counterexample
from clipax.lab.problems._scalar import l0l1_quartic as l0l1_quartic
from clipax.lab.problems._scalar import quartic as quartic
from clipax.lab.problems._streaming import StreamingLeastSquares as StreamingLeastSquares
from clipax.lab.problems._streaming import streaming_least_squares as streaming_least_squares
from clipax.lab.problems._two_point import TwoPointNoise as TwoPointNoise
from clipax.lab.problems._two_point import two_point_bias as two_point_bias
