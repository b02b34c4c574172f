"""Arguments that make no test problem are refused, with a message that says why."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clipax.lab import problems

DATA, CLASSES = np.random.default_rng(3).normal(size=(40, 3)), np.arange(40) % 2


WRONG = [
    (lambda: problems.huber(-1.0), "`nu` must be positive"),
    (lambda: problems.huber_counterexample(0), "`eps` must be positive"),
    (lambda: problems.quartic(math.inf), "`L1` must be positive and finite, got inf"),
    (lambda: problems.l0l1_quartic(0), "`L1` must be positive"),
    (lambda: problems.cosh(start=[1.0, 2.0]), r"`start` must be a number or of shape \(1,\), got"),
    (lambda: problems.cosh(start=math.nan), "`start` must be finite, got nan"),
    (lambda: problems.quadratic([1, -1]), "`curvature` must be positive semidefinite and not zero"),
    (lambda: problems.quadratic([0, 0]), "`curvature` must be positive semidefinite and not zero"),
    (lambda: problems.quadratic([[1, 2], [0, 1]]), "`curvature` must be symmetric"),
    (lambda: problems.quadratic(np.ones((2, 3))), r"vector or square, got shape \(2, 3\)"),
    (lambda: problems.quadratic([1, math.nan]), "`curvature` must be finite"),
    (lambda: problems.quadratic([1, 2], optimum=[1, 2, 3]), "must be a number or of shape"),
    (lambda: problems.ill_conditioned_quadratic(1), "`dim` must be at least 2, got 1"),
    (lambda: problems.wide_least_squares(rows=5, columns=5), "`columns` must be at least 6, got 5"),
    (lambda: problems.wide_least_squares(scale=0), "`scale` must be positive"),
    (lambda: problems.TwoPointNoise(1.0, 1.0), r"`probability` must be in \(0, 1\), got 1.0"),
    (lambda: problems.two_point_bias(0.0), "`sigma` must be positive"),
    (lambda: problems.streaming_least_squares(exponent=-1), "`exponent` must be non-negative"),
    (lambda: problems.logistic_regression([1.0], [1]), "`features` must have rows and columns"),
    (lambda: problems.logistic_regression(DATA, CLASSES[1:]), r"`labels` must have shape \(40,\)"),
    (lambda: problems.logistic_regression(DATA, CLASSES * 0), "must have two values, got 1"),
    (lambda: problems.logistic_regression(DATA * np.nan, CLASSES), "`features` must be finite"),
    (lambda: problems.logistic_regression(DATA, CLASSES, l2=-1), "`l2` must be non-negative"),
    (lambda: problems.logistic_regression(DATA, CLASSES, solve=True), "`l2` must be positive for"),
]


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_makes_no_problem_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
