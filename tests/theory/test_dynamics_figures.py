"""Reference figures of the dynamics of clipped SGD, theorems about them, and float32."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest

from clipax import theory

N = 500
START = np.full(N, 1 / (2 * N))
TIMES = (1.0, 5.0, 10.0, 15.0)
SLOW, FAST = np.arange(1, N + 1) ** -0.2, np.arange(1, N + 1) ** (-1 / 6)
# Computed beforehand by other code: spectrum j^(-1/5), rate .6, threshold .4, risks at the times.
RISKS = {
    "Cauchy": (theory.cauchy_noise(0.5), 0.4, (0.16530, 0.12122, 0.08812, 0.06979)),
    "Gaussian": (theory.gaussian_noise(0.5), 0.4, (0.15732, 0.09453, 0.05596, 0.03973)),
    "Laplace": (theory.laplace_noise(0.5), 0.4, (0.15597, 0.08912, 0.04823, 0.03160)),
    "Rademacher": (theory.rademacher_noise(0.5, 0.2), 0.4, (0.15496, 0.08366, 0.03776, 0.01870)),
    "plain": (theory.gaussian_noise(0.5), math.inf, (0.14575, 0.08137, 0.06009, 0.05512)),
}
# Spectrum j^(-1/6), rate .4, rare noise of deviation .8: the risk at the end. The second one was
# found with some 40 thresholds to choose from; the best of all gives .01075.
RARE = theory.rademacher_noise(0.8, 0.2)
FINAL = {"unclipped": 0.08245, "max-CCC": 0.01076, "exact": 0.01136, "bound": 0.01833}


@pytest.mark.parametrize("name", RISKS)
def test_reference_risks(name):
    noise, threshold, expected = RISKS[name]
    risk = theory.homogenized_risk(
        SLOW, START, noise, learning_rate=0.6, threshold=threshold, times=TIMES
    )
    np.testing.assert_allclose(risk, expected, atol=6e-6)


def test_reference_schedules_and_that_the_best_is_never_worse_than_sgd():
    assert SLOW.sum() == pytest.approx(179.7478, abs=5e-5)
    assert FAST.sum() == pytest.approx(212.4631, abs=5e-5)
    options = {"learning_rate": 0.4, "horizon": 15.0}
    schedules = {
        compensation: theory.proportional_schedule(
            FAST, START, RARE, kappa=0.3, compensation=compensation, **options
        )
        for compensation in ("exact", "bound")
    }
    best = schedules["max-CCC"] = theory.max_ccc_schedule(FAST, START, RARE, **options)
    plain = theory.homogenized_risk(
        FAST, START, RARE, learning_rate=0.4, threshold=math.inf, times=best.time
    )
    found = {name: schedule.risk[-1] for name, schedule in schedules.items()}
    found["unclipped"] = float(plain[-1])
    assert found.pop("max-CCC") == pytest.approx(FINAL["max-CCC"], rel=1e-3)
    assert best.risk[-1] < FINAL["max-CCC"]
    assert found == {name: pytest.approx(FINAL[name], abs=6e-6) for name in found}
    # Theorem 3, at every time: for this law clipping helps, for a Gaussian it does not.
    assert np.all(best.risk <= np.asarray(plain) * (1 + 1e-5))
    noise = theory.laplace_noise(0.8)
    best = theory.max_ccc_schedule(FAST, START, noise, **options)
    plain = theory.homogenized_risk(
        FAST, START, noise, learning_rate=0.4, threshold=math.inf, times=best.time
    )
    assert np.isfinite(best.threshold[-1])
    assert np.all(best.risk <= np.asarray(plain) * (1 + 1e-5))
    assert best.risk[-1] < 0.99 * plain[-1]


def test_a_clip_extends_the_stable_learning_rates_by_its_criterion():
    # Isotropic, no noise to speak of: d log R/dt = eta^2 nu - 2 eta mu, at a fixed ratio c^2/R.
    noise, ratio = theory.gaussian_noise(1e-3), 1.0
    limit = 2 * float(theory.clipping_stability(noise, 1.0, ratio))
    assert limit > 3
    for rate, grows in ((0.97 * limit, False), (1.03 * limit, True)):
        schedule = theory.proportional_schedule(
            np.ones(10),
            np.full(10, 0.1),
            noise,
            # Compensation divides by the same share at every time.
            learning_rate=rate * float(theory.reduction_factors(noise, 1.0, ratio).mu),
            kappa=ratio / math.sqrt(2),
            horizon=1.0,
        )
        assert (schedule.risk[-1] > schedule.risk[0]) is np.bool_(grows)


def test_float32_loses_nothing_at_extreme_ratios_of_threshold_noise_and_signal():
    risks, thresholds = np.meshgrid(np.geomspace(1e-4, 1e4, 5), np.geomspace(1e-3, 1e5, 25))
    sample = np.random.default_rng(0).standard_normal(101)
    for noise in (  # one of each form
        theory.laplace_noise(1.0),
        theory.uniform_noise(1.0),
        theory.student_t_noise(3.0, 1.0),
        theory.empirical_noise(sample),
    ):
        with jax.enable_x64(True):
            expected = theory.reduction_factors(noise, risks, thresholds)
        found = theory.reduction_factors(noise, risks, thresholds)
        assert found.mu.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5)
