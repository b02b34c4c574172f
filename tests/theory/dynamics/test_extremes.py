"""Sizes at the ends of float32 and float64: results as in other units, or an error with a name."""

from __future__ import annotations

import inspect
import itertools
import re

import jax
import numpy as np
import pytest

from clipax.theory import dynamics
from tests.thorough import thorough

SIZES = (5e-324, 1e-300, 1e-140, 1e-40, 1e-15, 1.0, 1e15, 1e40, 1e140, 1e300)
LAWS = {
    "gaussian_noise": dynamics.gaussian_noise,
    "laplace_noise": dynamics.laplace_noise,
    "uniform_noise": dynamics.uniform_noise,
    "rademacher_noise": lambda size: dynamics.rademacher_noise(size, 0.2),
    "student_t_noise": lambda size: dynamics.student_t_noise(3.0, size),
    "cauchy_noise": dynamics.cauchy_noise,
    "mixture_noise": lambda size: dynamics.mixture_noise(
        [0.5, 0.5], [size, -size], [size * size, 0.0]
    ),
    "empirical_noise": lambda size: dynamics.empirical_noise([size, -size, 3 * size]),
}
FACTORS = (
    dynamics.reduction_factors,
    dynamics.clipping_stability,
    dynamics.clipping_comparison,
    lambda noise, risk, threshold: dynamics.max_ccc_threshold(noise, risk),
)


def test_every_function_of_the_module_is_tried():
    functions = {name for name, _ in inspect.getmembers(dynamics, inspect.isfunction)}
    factors = {"reduction_factors", "clipping_stability", "clipping_comparison"}
    solutions = {"homogenized_risk", "homogenized_paths"}
    schedules = {"max_ccc_schedule", "proportional_schedule"}
    assert functions == {*LAWS, *factors, "max_ccc_threshold", *solutions, *schedules}


def attempt(function, *args, **keywords):
    """Return a result, or the name of the argument that an error begins with."""
    try:
        return jax.tree.map(np.asarray, function(*args, **keywords)), None
    except ValueError as error:
        named = re.match(r"^`(\w+)` must ", str(error))
        assert named, error  # noqa: PT017
        return None, named[1]


@pytest.mark.parametrize("x64", thorough([False, True], but=[False]))
@pytest.mark.parametrize("law", LAWS)
def test_factors_are_those_of_other_units_or_an_argument_is_named(law, x64):
    tolerance = 1e-9 if x64 else 2e-5
    low, high = (1e-140, 1e140) if x64 else (1e-15, 1e15)
    accepted = 0
    with jax.enable_x64(x64):
        expected = [function(LAWS[law](1.0), 0.5, 2.0) for function in FACTORS]
        powers = [(0, 2), (0,), (0,), (1,)]
        for size in SIZES:
            noise, refused = attempt(LAWS[law], size)
            if refused:
                assert not 1e-140 <= size <= 1e140, (size, refused)
                continue
            for function, power, right in zip(FACTORS, powers, expected, strict=True):
                found, refused = attempt(function, noise, 0.5 * size * size, 2.0 * size)
                if refused:
                    assert not low <= size <= high, (size, refused)
                    continue
                accepted += 1
                units = [size**n for n in power]
                right = jax.tree.leaves(right)
                for value, unit, one in zip(jax.tree.leaves(found), units, right, strict=True):
                    # The best threshold is at a flat top.
                    rtol = tolerance**0.5 if function is FACTORS[-1] else tolerance
                    np.testing.assert_allclose(value / unit, one, rtol=rtol, err_msg=str(size))
    assert accepted >= 4 * len([size for size in SIZES if low <= size <= high])


@pytest.mark.parametrize("x64", thorough([False, True], but=[False]))
@pytest.mark.parametrize("law", LAWS)
def test_factors_of_any_ratio_are_numbers_or_an_argument_is_named(law, x64):
    with jax.enable_x64(x64):
        for size, risk, threshold in itertools.product(SIZES, (0.0, *SIZES), (*SIZES, np.inf)):
            noise, refused = attempt(LAWS[law], size)
            if not refused:
                found, _ = attempt(dynamics.reduction_factors, noise, risk, threshold)
                if found is not None:
                    assert 0 <= found.mu <= 1 + 1e-5, (size, risk, threshold)
                    assert found.m2 > 0, (size, risk, threshold)


@pytest.mark.parametrize("size", SIZES)
def test_every_argument_of_a_law(size):
    for law in (
        lambda: dynamics.rademacher_noise(1.0, size),
        lambda: dynamics.rademacher_noise(size, 1e-300),
        lambda: dynamics.student_t_noise(max(0.2, size), 1.0),
        lambda: dynamics.student_t_noise(np.nextafter(2.0, 3.0), size),
        lambda: dynamics.mixture_noise([0.5, 0.5], [size, 0.0], [1.0, 0.0]),
        lambda: dynamics.mixture_noise([0.5, 0.5], [1.0, 0.0], [size, 0.0]),
        lambda: dynamics.empirical_noise([size, 1.0]),
    ):
        noise, _ = attempt(law)
        if noise is not None:
            assert noise.second_moment > 0
            for x64 in (False, True):
                with jax.enable_x64(x64):
                    found, _ = attempt(dynamics.reduction_factors, noise, 1.0, 1.0)
                    assert found is None or np.isfinite(found).all()


def test_a_great_freedom_is_nearly_gaussian():
    with jax.enable_x64(True):
        expected = dynamics.reduction_factors(dynamics.gaussian_noise(1.0), 0.1, 0.7)
        for freedom in (1e12, 1e20, 1e100, 1e308):
            found = dynamics.reduction_factors(dynamics.student_t_noise(freedom, 1.0), 0.1, 0.7)
            np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("size", [size for size in SIZES if size != 1])
@pytest.mark.parametrize(
    "argument", ["spectrum", "start", "sigma", "learning_rate", "threshold", "times", "dt", "kappa"]
)
def test_solutions_are_finite_or_name_an_argument(argument, size):
    given = dict.fromkeys(("spectrum", "start", "sigma", "learning_rate", "threshold"), 0.5)
    given |= {"times": 1.0, "dt": 0.05, "kappa": 1.0, argument: size}
    noise, _ = attempt(dynamics.gaussian_noise, given["sigma"])
    if noise is None:
        return
    places = ([given["spectrum"]] * 2, [given["start"]] * 2)
    rate, dt, key = given["learning_rate"], given["dt"], jax.random.key(0)
    path = {"threshold": given["threshold"], "times": [given["times"]]}
    ahead = {"learning_rate": rate, "horizon": given["times"], "dt": dt}
    for solve in (
        lambda: dynamics.homogenized_risk(*places, noise, learning_rate=rate, dt=dt, **path),
        lambda: dynamics.homogenized_paths(key, *places, noise, learning_rate=rate, dt=dt, **path),
        lambda: dynamics.proportional_schedule(*places, noise, kappa=given["kappa"], **ahead).risk,
        lambda: dynamics.max_ccc_schedule(*places, noise, **ahead).risk,
    ):
        found, _ = attempt(solve)
        assert found is None or np.isfinite(found).all()


def test_noise_too_rare_for_the_type_is_refused():
    noise = dynamics.rademacher_noise(1e-5, 1e-40)
    with pytest.raises(
        ValueError, match=r"^`noise` must have weights of at least 1.2e-38 in float32"
    ):
        dynamics.reduction_factors(noise, 1e-12, 1e16)
    with jax.enable_x64(True):
        found = dynamics.reduction_factors(noise, 1e-12, 1e16)
        np.testing.assert_allclose(found.m2, 1e-10 + 2e-12, rtol=1e-6)


def test_no_noise_at_all_is_a_law():
    found = dynamics.reduction_factors(dynamics.empirical_noise([0.0]), 0.5, 1.0)
    expected = dynamics.reduction_factors(dynamics.gaussian_noise(1e-6), 0.5, 1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
