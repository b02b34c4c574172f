"""Test problems: values, gradients and constants against forms written a second time in NumPy."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipax.lab import parse_noise, problems

RANDOM = np.random.default_rng(3)
ROTATED = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.5]])
DATA, CLASSES = RANDOM.normal(size=(40, 3)), RANDOM.integers(2, size=40)
SPECTRUM = np.arange(1, 7) ** -0.2


def huber(x):
    return np.where(np.abs(x) < 0.5, x**2 / 2, 0.5 * np.abs(x) - 0.125).sum()


def logistic(x):
    margins = np.where(CLASSES, 1.0, -1.0) * (DATA @ x)
    return np.log(1 + np.exp(-margins)).mean() + 0.05 * x @ x


def ill_conditioned(x):
    return sum(0.5 * 10 ** (-3 + 3 * j / 19) * x[j] ** 2 for j in range(20))


# Constructor, an independent form of the value (None: checked on its own), points at which.
MAKE = {
    "huber": (lambda: problems.huber(0.5), huber, [-4, -0.49, 0.3, 0.6, 7]),
    "x^4": (problems.quartic, lambda x: x[0] ** 4, [-3, -0.1, 1, 5]),
    "cosh": (problems.cosh, lambda x: np.cosh(x[0]) - 1, [-6, -1, 0.5, 3]),
    "l0l1": (
        lambda: problems.l0l1_quartic(10),
        lambda x: 100 / 72 * x[0] ** 4 + x[0] ** 2 / 4,
        [-5, 0.3, 2],
    ),
    "diagonal": (problems.ill_conditioned_quadratic, ill_conditioned, [10, -1]),
    "matrix": (
        lambda: problems.quadratic(ROTATED, optimum=[1, 2, 3], start=5),
        lambda x: 0.5 * (x - [1, 2, 3]) @ ROTATED @ (x - [1, 2, 3]),
        [0, 2, -3],
    ),
    "streaming": (
        lambda: problems.streaming_least_squares(6),
        lambda x: 0.5 * (SPECTRUM * x**2).sum(),
        [1, -2],
    ),
    "logistic": (
        lambda: problems.logistic_regression(DATA, CLASSES, l2=0.1, solve=True),
        logistic,
        [0, 1, -3],
    ),
}
# Their second derivatives.
SCALAR = {
    "huber": lambda x: 1.0 * (np.abs(x) < 0.5),
    "x^4": lambda x: 12 * x**2,
    "cosh": np.cosh,
    "l0l1": lambda x: 100 / 6 * x**2 + 0.5,
}


@pytest.fixture(scope="module")
def made():
    with jax.enable_x64(True):
        wide = problems.wide_least_squares(1, rows=5, columns=20)
        return {name: make() for name, (make, _, _) in MAKE.items()} | {"wide": wide}


@functools.cache
def program(problem):
    return jax.jit(jax.vmap(lambda x: (problem.value(x), problem.gradient(x)), -1, -1))


def evaluated(problem, points):
    """Values and gradients in the columns of `points`, by a program for 64 of them."""
    points = np.asarray(points, np.float64)
    count = points.shape[-1]
    padded = np.pad(points, ((0, 0), (0, 64 - count)))
    with jax.enable_x64(True):
        values, gradients = program(problem)(padded)
    return np.asarray(values)[:count], np.asarray(gradients)[:, :count]


def differences(value, x, step=1e-3):
    """The gradient by differences of the fourth order."""
    moves = step * np.eye(len(x))
    near = [value(x + move) - value(x - move) for move in moves]
    far = [value(x + 2 * move) - value(x - 2 * move) for move in moves]
    return (8 * np.array(near) - np.array(far)) / (12 * step)


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


def test_huber_has_a_gradient_of_twice_the_root_where_the_counterexample_asks_for_it():
    problem = problems.huber_counterexample(1e-2)
    assert float(problem.gradient(problem.start)[0]) == pytest.approx(2 * math.sqrt(2e-2))
    assert problem.L0 == 1


@pytest.mark.parametrize("threshold", [0.3, 0.5, 1.0, 2.0, 20.0])
def test_the_bias_of_two_points_is_a_fixed_point_and_the_largest(threshold):
    problem, noise, bias = problems.two_point_bias(1.0, threshold)
    p, values = noise.probability, np.array([noise.high, noise.low])
    weights = np.array([p, 1 - p])
    assert weights @ values == pytest.approx(0, abs=1e-15)
    assert weights @ values**2 == pytest.approx(1)
    assert weights @ np.clip(bias + values, -threshold, threshold) == pytest.approx(0, abs=1e-15)
    expected = 1 / (4 * threshold) if threshold > 0.5 else 0.5 - threshold / 4
    assert bias == pytest.approx(expected)
    if threshold > 0.5:
        for factor in (0.9, 1.1):
            s = noise.skew * factor
            other = problems.TwoPointNoise(1.0, s**2 / (1 + s**2))
            assert other.fixed_point(threshold) < bias
    assert (problem.L, problem.mu, problem.start[0]) == (1, 1, 0)
    assert str(noise).startswith("two-point(sigma=1, p=")


def test_two_points_come_with_their_probability():
    noise = problems.TwoPointNoise(3.0, 0.25)
    edges = noise.from_words(jnp.array([0, 2**30 - 1, 2**30, 2**32 - 1], jnp.uint32))
    np.testing.assert_allclose(edges, [noise.high] * 2 + [noise.low] * 2, rtol=1e-6)
    drawn = noise.sample(jax.random.key(0), (4000,))
    assert abs(float(jnp.mean(drawn > 0)) - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 4000)
    assert noise.words == 1
    with pytest.raises(ValueError, match="`threshold` must clip the upper value"):
        noise.fixed_point(1e3)


def test_streaming_samples_have_the_covariance_and_the_mean_gradient():
    noise, count = parse_noise("gaussian:2"), 20_000
    problem = problems.streaming_least_squares(6, noise=noise, scale=0.5)
    theta = np.array([1.0, -1, 2, 0, 0.5, 3], np.float32)

    @jax.jit
    @jax.vmap
    def draw(number):
        key = jax.random.key(number)
        return *problem.sample(key), problem.sample_gradient(theta, key)

    a, b, g = map(np.asarray, draw(np.arange(count)))
    np.testing.assert_allclose(a.T @ a / count, np.diag(SPECTRUM), atol=5 * math.sqrt(2 / count))
    assert b.std() == pytest.approx(1, rel=5 / math.sqrt(2 * count))
    assert abs(b @ a / count).max() < 5 / math.sqrt(count)  # errors do not know the example
    np.testing.assert_allclose(g, (a @ theta - b)[:, None] * a, atol=2e-5)
    error = g.std(axis=0) / math.sqrt(count)
    assert (np.abs(g.mean(axis=0) - SPECTRUM * theta) < 5 * error).all()
    quiet = problems.streaming_least_squares(6)
    assert jax.eval_shape(quiet.sample, jax.random.key(0))[1].shape == ()


def test_the_spectra_of_the_literature():
    problem = problems.streaming_least_squares()
    assert problem.intrinsic_dim == pytest.approx(179.7478, abs=1e-4)
    other = problems.streaming_least_squares(exponent=1 / 6)
    assert other.intrinsic_dim == pytest.approx(212.4631, abs=1e-4)
    # Half of 1/n in every direction, so that the risk is half the trace over n.
    assert float(problem.value(problem.start)) == pytest.approx(179.7478 / 1000, rel=1e-5)


def test_minibatches_of_logistic_regression(made):
    problem = made["logistic"]
    x = np.array([0.3, -2.0, 1.0])
    pairs = np.stack([np.arange(40), np.roll(np.arange(40), 1)], axis=-1)
    with jax.enable_x64(True):
        found = jax.jit(jax.vmap(problem.batch_gradient, (None, 0)))(x, pairs)
        slopes = jax.jit(jax.vmap(jax.grad(problem.batch_value), (None, 0)))(x, pairs)
    _, whole = evaluated(problem, x[:, None])
    np.testing.assert_allclose(np.mean(np.asarray(found), axis=0), whole[:, 0], rtol=1e-12)
    np.testing.assert_allclose(found, slopes, rtol=1e-12)

    def loss(x, rows=pairs[6]):
        margins = np.where(CLASSES, 1.0, -1.0)[rows] * (DATA[rows] @ x)
        return np.log(1 + np.exp(-margins)).mean() + 0.05 * x @ x

    np.testing.assert_allclose(found[6], differences(loss, x), rtol=1e-8)


def test_the_minimum_of_logistic_regression_is_found_where_it_is_asked_for(made):
    # That the gradient vanishes there is tested with the others.
    assert made["logistic"].optimum_value < logistic(np.asarray(made["logistic"].optimum) + 1e-3)
    plain = problems.logistic_regression(DATA, CLASSES)
    assert (plain.optimum, plain.optimum_value, plain.mu) == (None, None, None)
    with pytest.raises(ValueError, match="`l2` must be larger for a minimum to be found"):
        problems.logistic_regression(DATA, DATA[:, 0] > 0, l2=1e-300, solve=True)


def test_logistic_regression_far_away_is_finite():
    problem = problems.logistic_regression([[1e4], [-1e4]], [1, -1])
    assert float(problem.value(jnp.array([-1.0]))) == 1e4
    np.testing.assert_array_equal(problem.gradient(jnp.array([-1.0])), [-1e4])


def test_problems_work_in_the_type_of_the_point(made):
    for problem in made.values():
        x = jax.ShapeDtypeStruct((problem.dim,), jnp.float32)
        assert jax.eval_shape(problem.gradient, x) == x
        assert jax.eval_shape(problem.value, x) == jax.ShapeDtypeStruct((), jnp.float32)
    assert problems.cosh().start.dtype == jnp.float32
    assert len(set(made.values())) == len(made)  # hashable: a static argument
