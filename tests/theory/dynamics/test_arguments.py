"""The dynamics of clipped SGD refuse bad arguments, and their docstrings name every argument."""

from __future__ import annotations

import inspect
import math

import jax
import pytest

from clipax.theory import dynamics

INF, NAN = math.inf, math.nan
GAUSSIAN = dynamics.gaussian_noise(1.0)
ODE = {"learning_rate": 0.5, "threshold": 1.0, "times": [1.0]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dynamics.gaussian_noise(0.0), "`sigma` must be positive and finite, got 0.0."),
        (lambda: dynamics.laplace_noise(-1.0), "`sigma` must be positive and finite, got -1.0."),
        (lambda: dynamics.uniform_noise(NAN), "`sigma` must be positive and finite, got nan."),
        (lambda: dynamics.rademacher_noise(1.0, 0.0), "`probability` must be in (0, 1], got 0.0."),
        (lambda: dynamics.student_t_noise(0.1, 1.0), "`freedom` must be in [0.2, inf), got 0.1."),
        (lambda: dynamics.cauchy_noise(INF), "`scale` must be positive and finite, got inf."),
        (lambda: dynamics.mixture_noise([1.0], [0.0], [1.0, 2.0]), "`weights`, `means` and"),
        (lambda: dynamics.mixture_noise([0.5], [0.0], [1.0]), "`weights` must be non-negative and"),
        (lambda: dynamics.mixture_noise([1.0], [NAN], [1.0]), "`means` must be finite"),
        (lambda: dynamics.mixture_noise([1.0], [0.0], [-1.0]), "`variances` must be non-negative"),
        (lambda: dynamics.empirical_noise([]), "`residuals` must have one axis and a value"),
        (lambda: dynamics.empirical_noise([INF]), "`residuals` must be finite"),
        (lambda: dynamics.reduction_factors(GAUSSIAN, -1.0, 1.0), "`risk` must be non-negative"),
        (lambda: dynamics.reduction_factors(GAUSSIAN, 1.0, 0.0), "`threshold` must be positive"),
        (lambda: dynamics.max_ccc_threshold(GAUSSIAN, -1.0), "`risk` must be non-negative"),
        (
            lambda: dynamics.homogenized_risk([-1.0], [1.0], GAUSSIAN, **ODE),
            "`spectrum` must be non-negative and finite",
        ),
        (
            lambda: dynamics.homogenized_risk([0.0], [1.0], GAUSSIAN, **ODE),
            "`spectrum` must have a positive sum",
        ),
        (
            lambda: dynamics.homogenized_risk([1.0], [1.0, 2.0], GAUSSIAN, **ODE),
            "`start` must have the shape of `spectrum`, (1,), got (2,).",
        ),
        (
            lambda: dynamics.homogenized_risk([1.0], [1.0], GAUSSIAN, **ODE | {"times": 1.0}),
            "`times` must have one axis",
        ),
        (
            lambda: dynamics.homogenized_risk([1.0], [1.0], GAUSSIAN, **ODE, dt=0.0),
            "`dt` must be positive",
        ),
        (
            lambda: dynamics.homogenized_risk(
                [1.0], [1.0], dynamics.cauchy_noise(1.0), **ODE | {"threshold": INF}
            ),
            "`threshold` must be finite for noise without a second moment",
        ),
        (
            lambda: dynamics.homogenized_risk(
                [1.0], [1.0], GAUSSIAN, **ODE | {"threshold": lambda t: 0.5 - t}
            ),
            "`threshold` must be positive at all times, got 0.0.",
        ),
        (
            lambda: dynamics.homogenized_risk(
                [1.0], [1.0], GAUSSIAN, **ODE | {"learning_rate": lambda t: NAN * t}
            ),
            "`learning_rate` must be non-negative at all times, got nan.",
        ),
        (
            lambda: dynamics.homogenized_paths(
                jax.random.key(0), [1.0], [1.0], GAUSSIAN, **ODE, runs=0
            ),
            "`runs` must be at least 1",
        ),
        (
            lambda: dynamics.max_ccc_schedule(
                [1.0], [1.0], GAUSSIAN, learning_rate=0.0, horizon=1.0
            ),
            "`learning_rate` must be positive",
        ),
        (
            lambda: dynamics.proportional_schedule(
                [1.0],
                [1.0],
                GAUSSIAN,
                learning_rate=1.0,
                kappa=1.0,
                horizon=1.0,
                compensation="none",
            ),
            "`compensation` must be one of 'exact', 'bound', got 'none'.",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the text is compared)
        call()
    assert str(caught.value).startswith(message)


def test_docstrings_name_every_argument():
    functions = [function for _, function in inspect.getmembers(dynamics, inspect.isfunction)]
    assert len(functions) >= 16
    for function in functions:
        text = inspect.getdoc(function)
        described = text[text.index("\nArgs:") : text.index("\nReturns:")]
        for argument in inspect.signature(function).parameters:
            assert f"\n  {argument}: " in described, (function, argument)
