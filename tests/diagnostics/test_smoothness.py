"""Local smoothness along a step, and its recorder."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipax.diagnostics import (
    SmoothnessRecorder,
    local_smoothness,
)
from clipax.lab import problems

STIFF = np.array([0.5, 3.0, 8.0])


def quadratic(params, scale):
    """The gradient of a quadratic in two leaves, one of them a matrix."""
    return {"a": scale * STIFF[:2] * params["a"], "b": scale * STIFF[2] * params["b"]}


@functools.cache
def measured(grad_fun, points):
    return jax.jit(lambda *args: local_smoothness(grad_fun, *args, points=points))


def test_on_a_quadratic_it_is_the_curvature_along_the_step(x64):
    before = {"a": np.array([1.0, -2.0]), "b": np.full((2, 2), 3.0)}
    for move in ([1, 0, 0], [0, 1, 0], [0, 0, 1], [-0.3, 1e-6, 2]):
        step = {"a": np.array(move[:2], float), "b": np.full((2, 2), float(move[2]))}
        after = jax.tree.map(np.add, before, step)
        smoothness, grad_norm, valid = measured(quadratic, 3)(before, after, 2.0)
        weights = np.array([*np.square(move[:2]), 4 * move[2] ** 2])
        expected = 2 * np.sqrt((STIFF**2 * weights).sum() / weights.sum())
        assert valid
        assert float(smoothness) == pytest.approx(expected, rel=1e-9)
        assert float(grad_norm) == pytest.approx(2 * np.sqrt(0.5**2 + 6**2 + 4 * 24**2))


def fourth(x):
    return 4 * x**3


@pytest.mark.parametrize(("x", "d"), [(1.0, -0.9), (-1.0, 3.0), (2.0, 1e-3)])
def test_on_the_fourth_power_it_is_the_largest_of_the_points(x64, x, d):
    shares = np.arange(1, 6) / 5
    expected = np.abs(4 * (3 * x**2 + 3 * x * shares * d + shares**2 * d**2)).max()
    found = measured(fourth, 5)(jnp.array([x]), jnp.array([x + d]))
    assert float(found.smoothness) == pytest.approx(expected, rel=1e-9)
    assert float(found.grad_norm) == pytest.approx(4 * abs(x) ** 3)


def test_where_the_type_rounds_the_point_the_distance_is_its_own():
    x = jnp.array([1.0, 100.0], jnp.bfloat16)
    after = jnp.array([1.0 + 2**-7, 100.5], jnp.bfloat16)  # one place up each: nothing between
    found = measured(lambda x: 3.0 * x.astype(jnp.float32), 7)(x, after)
    assert float(found.smoothness) == pytest.approx(3, rel=1e-6)
    assert found.valid


def walled(x):
    """Infinite from 1 to 2, then not a number, from 2.5 on as before."""
    return jnp.where(x > 2.5, x, jnp.where(x > 2, jnp.nan, jnp.where(x > 1, jnp.inf, x)))


def test_what_gives_no_estimate_is_said_without_nan():
    steps = {(0.5, 0.5): 0.5, (0.5, 1.5): 0.5, (0.5, 3.0): 0.5, (1.5, 0.5): 0, (0.5, np.nan): 0.5}
    recorder = SmoothnessRecorder(walled, points=4)
    for (before, after), norm in steps.items():
        found = measured(walled, 4)(jnp.array([before]), jnp.array([after]))
        assert not found.valid
        assert found.smoothness == 0
        assert found.grad_norm == norm
        recorder(jnp.array([before]), jnp.array([after]))
    recorder(jnp.array([0.5]), jnp.array([0.25]))
    assert (recorder.steps, recorder.skipped) == (6, 5)
    columns = recorder.arrays()
    assert [columns[name].tolist() for name in columns] == [[5], [0.5], [1]]


def test_along_a_path_the_recorder_sees_the_curvature_of_each_step():
    problem = problems.cosh(start=9.0)
    recorder, x, path = SmoothnessRecorder(problem.gradient, every=3), np.array([9.0]), [9.0]
    for _ in range(20):
        g = np.sinh(x)
        new = x - np.minimum(1.0, 1 / np.abs(g)) * 0.5 * g
        recorder(x.astype(np.float32), new.astype(np.float32))
        x = new
        path.append(float(x[0]))
    columns = recorder.arrays()
    assert columns["step"].tolist() == list(range(0, 20, 3))
    ends = np.array(path)[columns["step"]], np.array(path)[columns["step"] + 1]
    near = ends[0] + 0.1 * (ends[1] - ends[0])
    chord = (np.sinh(near) - np.sinh(ends[0])) / (near - ends[0])
    np.testing.assert_allclose(columns["grad_norm"], np.sinh(ends[0]), rtol=1e-5)
    np.testing.assert_allclose(columns["smoothness"], chord, rtol=1e-3)  # going down: at first
    fit = recorder.fit(resamples=10)
    assert fit.n == 7
    assert fit.l1 == pytest.approx(1, rel=0.3)
    assert SmoothnessRecorder(problem.gradient).arrays()["step"].dtype == np.int64
