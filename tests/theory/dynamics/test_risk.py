"""The predicted risk against SciPy's solver, runs of clipped SGD and reference figures."""

from __future__ import annotations

import functools
import math

import jax
import numpy as np
import pytest

from clipax.theory import dynamics
from tests.theory.dynamics import reference

TIMES = (0.5, 1.0, 3.0)
SPECTRUM = np.arange(1, 41) ** -0.3
START = np.linspace(0.02, 0.05, 40)


def test_risks_are_those_of_an_adaptive_solver():
    noise = dynamics.gaussian_noise(0.5)
    arguments = (SPECTRUM, START, noise)

    def rate(t):
        return 0.5 / (1 + 0.1 * t)

    def threshold(t):
        return 0.2 + 0.3 * t

    found = functools.partial(reference.gaussian_factors, 0.5)
    expected = reference.risks(SPECTRUM, START, found, rate, threshold, TIMES)
    errors = []
    with jax.enable_x64(True):
        for dt in (0.05, 0.025):
            ours = dynamics.homogenized_risk(
                *arguments, learning_rate=rate, threshold=threshold, times=TIMES, dt=dt
            )
            errors.append(np.abs(ours / expected - 1).max())
    assert errors[0] < 2e-4
    assert errors[0] / errors[1] == pytest.approx(4, abs=0.5)  # a method of second order


def test_paths_scatter_about_the_predicted_risk():
    # In the limit of many dimensions they are one; here is the mean's distance of the order 1/d.
    spectrum, start = np.ones(300), np.full(300, 1 / 600)
    arguments = (spectrum, start, dynamics.rademacher_noise(0.5, 0.2))
    options = {"learning_rate": 0.5, "threshold": 0.4, "times": (0.0, *TIMES), "dt": 0.025}
    risks = dynamics.homogenized_paths(jax.random.key(0), *arguments, runs=40, **options)
    size = math.sqrt(1.25)
    found = functools.partial(reference.factors, {-size: 0.1, 0.0: 0.8, size: 0.1})
    predicted = reference.risks(
        spectrum, start, found, lambda t: 0.5, lambda t: 0.4, options["times"]
    )
    assert risks.shape == (40, 4)
    np.testing.assert_allclose(risks[:, 0], 0.5, rtol=1e-5)
    np.testing.assert_allclose(risks.mean(0), predicted, rtol=0.03)
    scatter = risks.std(0) / predicted
    assert 0.01 < scatter[-1] < 0.2
    assert not np.allclose(risks[0], risks[1], rtol=1e-3)


N = 500
EQUAL_START = np.full(N, 1 / (2 * N))
FIGURE_TIMES = (1.0, 5.0, 10.0, 15.0)
SLOW, FAST = np.arange(1, N + 1) ** -0.2, np.arange(1, N + 1) ** (-1 / 6)
# Computed beforehand by other code: spectrum j^(-1/5), rate .6, threshold .4, risks at the times.
RISKS = {
    "Cauchy": (dynamics.cauchy_noise(0.5), 0.4, (0.16530, 0.12122, 0.08812, 0.06979)),
    "Gaussian": (dynamics.gaussian_noise(0.5), 0.4, (0.15732, 0.09453, 0.05596, 0.03973)),
    "Laplace": (dynamics.laplace_noise(0.5), 0.4, (0.15597, 0.08912, 0.04823, 0.03160)),
    "Rademacher": (dynamics.rademacher_noise(0.5, 0.2), 0.4, (0.15496, 0.08366, 0.03776, 0.01870)),
    "plain": (dynamics.gaussian_noise(0.5), math.inf, (0.14575, 0.08137, 0.06009, 0.05512)),
}


@pytest.mark.parametrize("name", RISKS)
def test_reference_risks(name):
    noise, threshold, expected = RISKS[name]
    risk = dynamics.homogenized_risk(
        SLOW, EQUAL_START, noise, learning_rate=0.6, threshold=threshold, times=FIGURE_TIMES
    )
    np.testing.assert_allclose(risk, expected, atol=6e-6)
