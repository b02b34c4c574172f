"""All test problems: values, gradients, optima and constants."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipax.lab import problems
from tests.lab.problems.cases import MAKE, differences, evaluated

# Their second derivatives.
SCALAR = {
    "huber": lambda x: 1.0 * (np.abs(x) < 0.5),
    "x^4": lambda x: 12 * x**2,
    "cosh": np.cosh,
    "l0l1": lambda x: 100 / 6 * x**2 + 0.5,
}


@pytest.mark.parametrize("name", MAKE)
def test_values_and_gradients_are_those_of_the_formula(made, name):
    problem, (_, value, places) = made[name], MAKE[name]
    # Entries that differ, so that none can be mixed up with another.
    points = np.outer(1 + 0.1 * np.arange(problem.dim), np.array(places, float))
    values, gradients = evaluated(problem, points)
    np.testing.assert_allclose(values, [value(x) for x in points.T], rtol=1e-12)
    expected = np.stack([differences(value, x) for x in points.T], axis=-1)
    np.testing.assert_allclose(gradients, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", [*MAKE, "wide"])
def test_gradients_vanish_at_the_optimum(made, name):
    problem = made[name]
    value, gradient = evaluated(problem, problem.optimum[:, None])
    assert np.abs(gradient).max() < 1e-9
    assert value[0] == pytest.approx(problem.optimum_value, abs=1e-14)


@pytest.mark.parametrize("name", SCALAR)
def test_constants_in_one_dimension_hold_and_are_the_least(made, name):
    problem = made[name]
    far = float(problem.start[0])
    grid = np.linspace(-far, far, 61)  # the sublevel set of the start
    curvature = SCALAR[name](grid)
    values, (gradient,) = evaluated(problem, grid[None])
    slack = problem.L0 + problem.L1 * np.abs(gradient) - curvature
    # The literature's L0 is twice what the (1, L1)-smooth quartic needs.
    assert slack.min() == pytest.approx(0.5 if name == "l0l1" else 0, abs=1e-12 * curvature.max())
    assert gradient.max() == pytest.approx(problem.M, rel=1e-12)
    assert curvature.max() == pytest.approx(problem.L_sublevel, rel=1e-12)
    assert (problem.L if name == "huber" else 1 / problem.L) == (name == "huber")
    assert curvature.min() == pytest.approx(problem.mu or 0, rel=1e-12)
    assert (gradient**2 / 2 >= (problem.mu or 0) * values * (1 - 1e-12)).all()


@pytest.mark.parametrize("name", ["diagonal", "matrix", "streaming", "logistic", "wide"])
def test_constants_are_the_eigenvalues_of_the_hessian(made, name):
    problem = made[name]
    step = 1e-5 if name == "logistic" else 1.0
    _, ends = evaluated(problem, step * np.hstack([np.eye(problem.dim), -np.eye(problem.dim)]))
    hessian = (ends[:, : problem.dim] - ends[:, problem.dim :]) / (2 * step)
    eigenvalues, axes = np.linalg.eigh(hessian)
    assert eigenvalues[-1] == pytest.approx(problem.L, rel=1e-8)
    assert (problem.L0, problem.L1) == (problem.L, 0)
    if name == "logistic":
        assert problem.mu == 0.1
        assert eigenvalues[0] > problem.mu
        assert problem.M is None
        return
    assert problem.mu == pytest.approx(eigenvalues[eigenvalues > 1e-9][0], rel=1e-10)
    # The largest norm of a sublevel set is reached along the stiffest direction.
    (energy,), _ = evaluated(problem, problem.start[:, None])
    farthest = np.asarray(problem.optimum) + axes[:, -1] * math.sqrt(2 * energy / problem.L)
    (reached,), gradient = evaluated(problem, farthest[:, None])
    assert reached == pytest.approx(energy)
    assert np.linalg.norm(gradient) == pytest.approx(problem.M, rel=1e-9)


def test_of_many_optima_it_is_the_one_nearest_to_the_start():
    flat = problems.quadratic([1.0, 0.0], start=[3, 5], optimum=[1, -7])
    np.testing.assert_allclose(flat.optimum, [1, 5])
    turned = problems.quadratic([[1.0, 1.0], [1.0, 1.0]], start=[3, 1], optimum=[0, 0])
    np.testing.assert_allclose(turned.optimum, [1, -1], atol=1e-6)
    with jax.enable_x64(True):
        wide = problems.wide_least_squares(1)
        step = jax.jit(lambda x: (wide.value(x), x - wide.gradient(x) / wide.L))
        count, (value, x) = 0, step(wide.start)
        while value > 1e-6:
            count, (value, x) = count + 1, step(x)
    np.testing.assert_allclose(x, wide.optimum, atol=1e-2)
    assert wide.dim == 200
    assert 67 <= count <= 75  # gradient descent at 1/L, published with the problem


def steps(problem, rate, done):
    """Clipped gradient descent in plain floats, with the rate a function of the gradient norm."""
    with jax.enable_x64(True):
        x, count, gradient = np.asarray(problem.start), 0, jax.jit(problem.gradient)
        while not done(x, g := np.asarray(gradient(x))):
            x, count = x - rate(np.abs(g)) * g, count + 1
    return count


def test_iterations_are_those_of_the_literature(made):
    x4, cosh = made["x^4"], made["cosh"]
    clipped = steps(x4, lambda n: min(1 / x4.L0, 1 / (x4.L1 * n)), lambda x, g: abs(g) <= 0.1)
    assert clipped == 49
    plain = steps(
        cosh, lambda n: 1 / (2 * (cosh.M * cosh.L1 + cosh.L0)), lambda x, g: abs(g) <= 1e-3
    )
    assert plain == 161
    for L1, plain, clipped in ((1, 62, 13), (10, None, 55)):
        with jax.enable_x64(True):
            one = problems.l0l1_quartic(L1)

        def done(x, g, one=one):
            return float(one.value(x)) <= 1e-6

        if plain:
            assert steps(one, lambda n, one=one: 1 / one.L_sublevel, done) == plain
        assert steps(one, lambda n, one=one: min(1, one.L0 / one.L1 / n), done) == clipped


def test_the_spectra_of_the_literature():
    problem = problems.streaming_least_squares()
    assert problem.intrinsic_dim == pytest.approx(179.7478, abs=1e-4)
    other = problems.streaming_least_squares(exponent=1 / 6)
    assert other.intrinsic_dim == pytest.approx(212.4631, abs=1e-4)
    # Half of 1/n in every direction, so that the risk is half the trace over n.
    assert float(problem.value(problem.start)) == pytest.approx(179.7478 / 1000, rel=1e-5)


def test_problems_work_in_the_type_of_the_point(made):
    for problem in made.values():
        x = jax.ShapeDtypeStruct((problem.dim,), jnp.float32)
        assert jax.eval_shape(problem.gradient, x) == x
        assert jax.eval_shape(problem.value, x) == jax.ShapeDtypeStruct((), jnp.float32)
    assert problems.cosh().start.dtype == jnp.float32
    assert len(set(made.values())) == len(made)  # hashable: a static argument
