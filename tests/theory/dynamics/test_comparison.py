"""The comparison criterion and the best threshold, against their formulas and a dense search."""

from __future__ import annotations

import functools
import math

import jax
import numpy as np
import pytest

from clipax.theory import dynamics
from tests.theory.dynamics import reference
from tests.theory.dynamics.laws import GRID_RISKS, GRID_THRESHOLDS, LAWS

INF, NAN = math.inf, math.nan


def test_criteria():
    noise, _ = LAWS["rademacher"]
    with jax.enable_x64(True):
        mu, m2, stability, criterion = map(
            np.asarray,
            (
                *dynamics.reduction_factors(noise, GRID_RISKS, GRID_THRESHOLDS),
                dynamics.clipping_stability(noise, GRID_RISKS, GRID_THRESHOLDS),
                dynamics.clipping_comparison(noise, GRID_RISKS, GRID_THRESHOLDS),
            ),
        )
    unclipped = 2 * GRID_RISKS + 25
    np.testing.assert_allclose(stability, mu / m2 * unclipped, rtol=1e-12)
    np.testing.assert_allclose(criterion, mu**2 / m2 * unclipped, rtol=1e-12)
    thresholds = np.array([4.0, 4.0, 4.0, INF, INF, INF])
    cauchy = dynamics.clipping_comparison(LAWS["cauchy"][0], GRID_RISKS, thresholds)
    np.testing.assert_array_equal(cauchy, [INF, INF, INF, 1, 1, 1])


@pytest.mark.parametrize("name", ["rademacher", "cauchy"])
def test_the_best_threshold_is_that_of_a_dense_search(name):
    noise, law = LAWS[name]
    risks = np.array([0.3, 8.0])
    with jax.enable_x64(True):
        best = np.asarray(dynamics.max_ccc_threshold(noise, risks))
        mu, m2 = (np.asarray(part) for part in dynamics.reduction_factors(noise, risks, best))
    if name == "cauchy":  # quadrature is slow: no point of a coarse grid may be better
        candidates = np.geomspace(0.05, 60, 8)
        others = [reference.factors(law, risks[1], other) for other in candidates]
        assert max(a**2 / b for a, b in others) <= mu[1] ** 2 / m2[1] * (1 + 1e-9)
        assert candidates[0] < best[1] < candidates[-1]
        return
    for risk, c, value in zip(risks, best, mu**2 / m2, strict=True):
        found = functools.partial(reference.factors, law, risk)
        expected = reference.best_threshold(found, math.sqrt(2 * risk + 25))
        assert c == pytest.approx(expected[0], rel=1e-3)
        assert value == pytest.approx(expected[1], rel=1e-8)


def test_gaussian_noise_is_never_worth_clipping():
    # Theorem 4, at all ratios of noise and signal.
    with jax.enable_x64(True):
        risks = np.geomspace(1e-3, 1e3, 7)
        c = np.geomspace(0.05, 500, 60)[:, None]
        assert np.max(dynamics.clipping_comparison(LAWS["gaussian"][0], risks, c)) <= 1 + 1e-12
    # In float32 rounding errors must not pass for an advantage.
    assert np.isinf(dynamics.max_ccc_threshold(LAWS["gaussian"][0], risks)).all()
