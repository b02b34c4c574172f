"""Problems in one dimension."""

from __future__ import annotations

import math

import pytest

from clipax.lab import problems


def test_huber_has_a_gradient_of_twice_the_root_where_the_counterexample_asks_for_it():
    problem = problems.huber_counterexample(1e-2)
    assert float(problem.gradient(problem.start)[0]) == pytest.approx(2 * math.sqrt(2e-2))
    assert problem.L0 == 1
