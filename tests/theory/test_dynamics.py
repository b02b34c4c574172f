"""The dynamics of clipped SGD against quadrature, SciPy's solver and runs of clipped SGD."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import clipax
from clipax import theory
from tests.theory import dynamics_reference as reference

INF, NAN = math.inf, math.nan
LAWS = {
    "gaussian": (theory.gaussian_noise(5.0), stats.norm(scale=5)),
    "laplace": (theory.laplace_noise(5.0), stats.laplace(scale=5 / math.sqrt(2))),
    "uniform": (theory.uniform_noise(5.0), stats.uniform(-5 * 3**0.5, 10 * 3**0.5)),
    "t3": (theory.student_t_noise(3.0, 5.0), stats.t(3, scale=5)),
    "cauchy": (theory.cauchy_noise(5.0), stats.cauchy(scale=5)),
    "rademacher": (
        theory.rademacher_noise(5.0, 0.2),
        {-math.sqrt(125): 0.1, 0.0: 0.8, math.sqrt(125): 0.1},
    ),
}
# Share within the threshold, second moment: risk 3, threshold 4, deviation or scale 5.
POINTS = {
    "gaussian": (0.52750, 10.18461),
    "laplace": (0.59808, 9.21376),
    "uniform": (0.45877, 11.09032),
    "t3": (0.47254, 10.77900),
    "cauchy": (0.38998, 11.67377),
    "rademacher": (0.71836, 7.16961),
}
# Noise much larger and much smaller than the signal, thresholds that clip all or nearly nothing.
GRID_RISKS = np.array([0.0, 0.02, 3.0, 3.0, 3.0, 400.0])
GRID_THRESHOLDS = np.array([6.0, 3.0, 0.2, 4.0, 30.0, 5.0])
TIMES = (0.5, 1.0, 3.0)
SPECTRUM = np.arange(1, 41) ** -0.3
START = np.linspace(0.02, 0.05, 40)


@pytest.mark.parametrize("name", LAWS)
def test_factors_are_those_of_quadrature(name):
    noise, law = LAWS[name]
    expected = np.transpose(
        [reference.factors(law, *point) for point in zip(GRID_RISKS, GRID_THRESHOLDS, strict=True)]
    )
    np.testing.assert_allclose(expected[:, 3], POINTS[name], atol=5.1e-6)
    with jax.enable_x64(True):
        found = theory.reduction_factors(noise, GRID_RISKS, GRID_THRESHOLDS)
        assert found.mu.dtype == found.m2.dtype == jnp.float64
        np.testing.assert_allclose(found, expected, rtol=1e-8)
        unclipped = theory.reduction_factors(noise, GRID_RISKS, np.full(6, INF))
        np.testing.assert_array_equal(unclipped.mu, 1)
        moment = INF if name == "cauchy" else 75 if name == "t3" else 25
        np.testing.assert_allclose(unclipped.m2, 2 * GRID_RISKS + moment)


def test_mixtures_and_samples_are_what_they_are_made_of():
    sample = [3.0, -1.0, 0.5, 0.5]
    atoms = {3.0: 0.25, -1.0: 0.25, 0.5: 0.5}
    skewed = theory.mixture_noise([0.25, 0.75], [-1.5, 0.5], [4.0, 1.0])
    with jax.enable_x64(True):
        for risk, c in ((0.7, 1.2), (0.01, 2.0)):
            found = theory.reduction_factors(theory.empirical_noise(sample), risk, c)
            np.testing.assert_allclose(found, reference.factors(atoms, risk, c), rtol=1e-10)
            # A component's variance adds to the signal's.
            parts = [
                np.multiply(weight, reference.conditional(mean, risk + variance / 2, c))
                for weight, mean, variance in zip(*skewed[:3], strict=True)
            ]
            found = theory.reduction_factors(skewed, risk, c)
            np.testing.assert_allclose(found, np.sum(parts, 0), rtol=1e-10)
    assert skewed.second_moment == pytest.approx(0.25 * 6.25 + 0.75 * 1.25)


@pytest.mark.parametrize("freedom", [0.5, 2.2, 40.0])
def test_student_t_of_any_freedom(freedom):
    noise, law = theory.student_t_noise(freedom, 2.0), stats.t(freedom, scale=2)
    with jax.enable_x64(True):
        # The median, and a share and a tail by the law's own distribution function, without risk.
        found = theory.reduction_factors(noise, np.zeros(2), np.array([law.ppf(0.75), 0.3]))
    np.testing.assert_allclose(found.mu, [0.5, 1 - 2 * law.sf(0.3)], rtol=1e-10)
    assert noise.second_moment == pytest.approx(law.var() if freedom > 2 else INF)


def test_criteria():
    noise, _ = LAWS["rademacher"]
    with jax.enable_x64(True):
        mu, m2, stability, criterion = map(
            np.asarray,
            (
                *theory.reduction_factors(noise, GRID_RISKS, GRID_THRESHOLDS),
                theory.clipping_stability(noise, GRID_RISKS, GRID_THRESHOLDS),
                theory.clipping_comparison(noise, GRID_RISKS, GRID_THRESHOLDS),
            ),
        )
    unclipped = 2 * GRID_RISKS + 25
    np.testing.assert_allclose(stability, mu / m2 * unclipped, rtol=1e-12)
    np.testing.assert_allclose(criterion, mu**2 / m2 * unclipped, rtol=1e-12)
    thresholds = np.array([4.0, 4.0, 4.0, INF, INF, INF])
    cauchy = theory.clipping_comparison(LAWS["cauchy"][0], GRID_RISKS, thresholds)
    np.testing.assert_array_equal(cauchy, [INF, INF, INF, 1, 1, 1])


@pytest.mark.parametrize("name", ["rademacher", "cauchy"])
def test_the_best_threshold_is_that_of_a_dense_search(name):
    noise, law = LAWS[name]
    risks = np.array([0.3, 8.0])
    with jax.enable_x64(True):
        best = np.asarray(theory.max_ccc_threshold(noise, risks))
        mu, m2 = (np.asarray(part) for part in theory.reduction_factors(noise, risks, best))
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
        assert np.max(theory.clipping_comparison(LAWS["gaussian"][0], risks, c)) <= 1 + 1e-12
    # In float32 rounding errors must not pass for an advantage.
    assert np.isinf(theory.max_ccc_threshold(LAWS["gaussian"][0], risks)).all()


def test_risks_are_those_of_an_adaptive_solver():
    noise = theory.gaussian_noise(0.5)
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
            ours = theory.homogenized_risk(
                *arguments, learning_rate=rate, threshold=threshold, times=TIMES, dt=dt
            )
            errors.append(np.abs(ours / expected - 1).max())
    assert errors[0] < 2e-4
    assert errors[0] / errors[1] == pytest.approx(4, abs=0.5)  # a method of second order


def test_paths_scatter_about_the_predicted_risk():
    # In the limit of many dimensions they are one; here is the mean's distance of the order 1/d.
    spectrum, start = np.ones(300), np.full(300, 1 / 600)
    arguments = (spectrum, start, theory.rademacher_noise(0.5, 0.2))
    options = {"learning_rate": 0.5, "threshold": 0.4, "times": (0.0, *TIMES), "dt": 0.025}
    risks = theory.homogenized_paths(jax.random.key(0), *arguments, runs=40, **options)
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


@pytest.fixture(scope="module")
def schedule():
    return theory.max_ccc_schedule(
        np.ones(150),
        np.full(150, 1 / 100),
        theory.rademacher_noise(0.8, 0.2),
        learning_rate=0.4,
        horizon=4.0,
        dt=0.1,
    )


def test_a_schedule_agrees_with_its_own_risk(schedule):
    assert schedule.time[-1] == pytest.approx(4)
    assert schedule.dimension == 150
    noise = theory.rademacher_noise(0.8, 0.2)
    # At first the noise is small beside the signal, and nothing is clipped.
    assert np.isinf(schedule.threshold[:10]).all()
    size = 0.8 / math.sqrt(0.2)
    atoms = {-size: 0.1, 0.0: 0.8, size: 0.1}
    for place in (20, 40):
        found = functools.partial(reference.factors, atoms, schedule.risk[place])
        best, _ = reference.best_threshold(found, math.sqrt(2 * schedule.risk[place] + 0.64))
        # The maximum is flat: float32 sees it to the root of its precision.
        assert schedule.threshold[place] == pytest.approx(best, rel=3e-3)
    share = theory.reduction_factors(noise, schedule.risk, schedule.threshold).mu
    np.testing.assert_allclose(schedule.learning_rate * share, 0.4, rtol=1e-4)
    parameters = schedule.parameters()
    steps = np.array([0, 15, 22, 600, 5000])
    places = np.minimum(steps / 150, 4)
    np.testing.assert_allclose(
        parameters.learning_rate(steps) * 150,
        np.interp(places, schedule.time, schedule.learning_rate),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        math.sqrt(150) / parameters.threshold(steps),
        np.interp(places, schedule.time, 1 / schedule.threshold),
        rtol=1e-5,
    )


def test_clipped_sgd_follows_its_schedule(schedule):
    runs, steps, size = 40, 600, 0.8 / math.sqrt(0.2)
    optimizer = clipax.clip_sgd(**schedule.parameters()._asdict(), scope="unit")

    def step(carry, key):
        x, state = carry  # a column is a run
        keys = jax.random.split(key, 3)
        a = jax.random.normal(keys[0], x.shape)
        noise = size * jax.random.rademacher(keys[1], (runs,), x.dtype)
        noise = jnp.where(jax.random.bernoulli(keys[2], 0.2, (runs,)), noise, 0)
        updates, state = optimizer.update(a * (jnp.sum(a * x, 0) - noise), state)
        return (optax.apply_updates(x, updates), state), (x**2).sum(0).mean() / 2

    @jax.jit
    def risks(key):
        x = jnp.full((150, runs), math.sqrt(2 / 100))
        return jax.lax.scan(step, (x, optimizer.init(x)), jax.random.split(key, steps))[1]

    found = np.asarray(risks(jax.random.key(0)))
    assert found[0] == pytest.approx(1.5, rel=1e-5)
    times = np.array([1.0, 2.0, 3.0])
    predicted = np.interp(times, schedule.time, schedule.risk)
    np.testing.assert_allclose(found[(150 * times).astype(int)], predicted, rtol=0.08)


def test_where_clipping_does_not_help_the_best_schedule_is_sgd():
    arguments = (SPECTRUM, START, theory.gaussian_noise(0.5))
    found = theory.max_ccc_schedule(*arguments, learning_rate=0.5, horizon=3.0)
    expected = reference.risks(
        SPECTRUM, START, lambda risk, c: (1, 2 * risk + 0.25), lambda t: 0.5, lambda t: INF, TIMES
    )
    np.testing.assert_allclose(found.risk[[10, 20, 60]], expected, rtol=3e-4)
    assert np.isinf(found.threshold).all()
    parameters = found.parameters()
    assert parameters.threshold(7) == INF
    assert parameters.learning_rate(7) == pytest.approx(0.5 / SPECTRUM.sum())


def test_proportional_thresholds():
    noise = theory.gaussian_noise(0.5)
    for compensation in ("exact", "bound"):
        found = theory.proportional_schedule(
            SPECTRUM,
            START,
            noise,
            learning_rate=0.2,
            kappa=0.5,
            horizon=3.0,
            compensation=compensation,
        )
        deviation = np.sqrt(2 * found.risk + 0.25)
        np.testing.assert_allclose(found.threshold, 0.5 * deviation, rtol=1e-5)
        share = stats.chi2.cdf(0.25, 1)
        rate = 0.2 / share if compensation == "exact" else 0.4
        np.testing.assert_allclose(found.learning_rate, rate, rtol=1e-5)
