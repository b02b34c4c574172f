"""Laws of the labels' noise against SciPy's laws and against their own components."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest
from scipy import stats

from clipax.theory import dynamics
from tests.theory.dynamics import reference

INF, NAN = math.inf, math.nan


def test_mixtures_and_samples_are_what_they_are_made_of():
    sample = [3.0, -1.0, 0.5, 0.5]
    atoms = {3.0: 0.25, -1.0: 0.25, 0.5: 0.5}
    skewed = dynamics.mixture_noise([0.25, 0.75], [-1.5, 0.5], [4.0, 1.0])
    with jax.enable_x64(True):
        for risk, c in ((0.7, 1.2), (0.01, 2.0)):
            found = dynamics.reduction_factors(dynamics.empirical_noise(sample), risk, c)
            np.testing.assert_allclose(found, reference.factors(atoms, risk, c), rtol=1e-10)
            # A component's variance adds to the signal's.
            parts = [
                np.multiply(weight, reference.conditional(mean, risk + variance / 2, c))
                for weight, mean, variance in zip(*skewed[:3], strict=True)
            ]
            found = dynamics.reduction_factors(skewed, risk, c)
            np.testing.assert_allclose(found, np.sum(parts, 0), rtol=1e-10)
    assert skewed.second_moment == pytest.approx(0.25 * 6.25 + 0.75 * 1.25)


@pytest.mark.parametrize("freedom", [0.5, 2.2, 40.0])
def test_student_t_of_any_freedom(freedom):
    noise, law = dynamics.student_t_noise(freedom, 2.0), stats.t(freedom, scale=2)
    with jax.enable_x64(True):
        # The median, and a share and a tail by the law's own distribution function, without risk.
        found = dynamics.reduction_factors(noise, np.zeros(2), np.array([law.ppf(0.75), 0.3]))
    np.testing.assert_allclose(found.mu, [0.5, 1 - 2 * law.sf(0.3)], rtol=1e-10)
    assert noise.second_moment == pytest.approx(law.var() if freedom > 2 else INF)
