"""Reduction factors against quadrature, for every law of noise, and in float32."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipax.theory import dynamics
from tests.theory.dynamics import reference
from tests.theory.dynamics.laws import GRID_RISKS, GRID_THRESHOLDS, LAWS

INF, NAN = math.inf, math.nan
# Share within the threshold, second moment: risk 3, threshold 4, deviation or scale 5.
POINTS = {
    "gaussian": (0.52750, 10.18461),
    "laplace": (0.59808, 9.21376),
    "uniform": (0.45877, 11.09032),
    "t3": (0.47254, 10.77900),
    "cauchy": (0.38998, 11.67377),
    "rademacher": (0.71836, 7.16961),
}


@pytest.mark.parametrize("name", LAWS)
def test_factors_are_those_of_quadrature(name):
    noise, law = LAWS[name]
    expected = np.transpose(
        [reference.factors(law, *point) for point in zip(GRID_RISKS, GRID_THRESHOLDS, strict=True)]
    )
    np.testing.assert_allclose(expected[:, 3], POINTS[name], atol=5.1e-6)
    with jax.enable_x64(True):
        found = dynamics.reduction_factors(noise, GRID_RISKS, GRID_THRESHOLDS)
        assert found.mu.dtype == found.m2.dtype == jnp.float64
        np.testing.assert_allclose(found, expected, rtol=1e-8)
        unclipped = dynamics.reduction_factors(noise, GRID_RISKS, np.full(6, INF))
        np.testing.assert_array_equal(unclipped.mu, 1)
        moment = INF if name == "cauchy" else 75 if name == "t3" else 25
        np.testing.assert_allclose(unclipped.m2, 2 * GRID_RISKS + moment)


def test_float32_loses_nothing_at_extreme_ratios_of_threshold_noise_and_signal():
    risks, thresholds = np.meshgrid(np.geomspace(1e-4, 1e4, 5), np.geomspace(1e-3, 1e5, 25))
    sample = np.random.default_rng(0).standard_normal(101)
    for noise in (  # one of each form
        dynamics.laplace_noise(1.0),
        dynamics.uniform_noise(1.0),
        dynamics.student_t_noise(3.0, 1.0),
        dynamics.empirical_noise(sample),
    ):
        with jax.enable_x64(True):
            expected = dynamics.reduction_factors(noise, risks, thresholds)
        found = dynamics.reduction_factors(noise, risks, thresholds)
        assert found.mu.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5)
