"""Local smoothness, its line and the tail of gradient noise, beside NumPy and SciPy."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from clipax.diagnostics import (
    SmoothnessRecorder,
    fit_smoothness,
    gradient_noise,
    local_smoothness,
    tail_shares,
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


def test_the_line_of_the_hyperbolic_cosine_has_both_constants_one():
    x = np.concatenate([np.linspace(1e-5, 1e-3, 50), np.linspace(8, 20, 50)])
    fit = fit_smoothness(np.sinh(x), np.cosh(x), resamples=50)
    assert fit.l0 == pytest.approx(1, rel=1e-3)
    assert fit.l1 == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(
    ("l0", "l1"), [(3, 0.5), (1e-12, 1e-10), (1e9, 1e3), (2, 0), (0, 2), (1e-3, 1e4)]
)
def test_a_line_is_found_exactly(l0, l1):
    norms = np.logspace(-5, 3, 40)
    fit = fit_smoothness(norms, l0 + l1 * norms, resamples=20)
    assert fit.l0 == pytest.approx(l0, rel=1e-8)
    assert fit.l1 == pytest.approx(l1, rel=1e-8)
    # So is it in every resample.
    np.testing.assert_allclose(fit.l0_interval, l0, rtol=1e-5)
    np.testing.assert_allclose(fit.l1_interval, l1, rtol=1e-5)
    np.testing.assert_allclose(fit.predict(norms), l0 + l1 * norms, rtol=1e-5)
    assert fit.scatter < 1e-5


def noisy(seed, count=150):
    random = np.random.default_rng(seed)
    norms = np.exp(random.normal(0, 2, count))
    return norms, (2 + 0.7 * norms) * np.exp(0.4 * random.normal(size=count))


def test_it_is_the_least_squares_of_logarithms_of_scipy():
    norms, smoothness = noisy(0)

    def squares(logs):
        line = np.exp(logs[0]) + np.exp(logs[1]) * norms
        return np.square(np.log(smoothness / line)).sum()

    options = {"xatol": 1e-10, "fatol": 1e-14}
    peer = scipy.optimize.minimize(squares, [0, 0], method="Nelder-Mead", options=options)
    fit = fit_smoothness(norms, smoothness, resamples=300)
    np.testing.assert_allclose([fit.l0, fit.l1], np.exp(peer.x), rtol=1e-5)
    assert fit.scatter == pytest.approx(np.log(smoothness / fit.predict(norms)).std())
    # In other units it is the same line.
    other = fit_smoothness(1e3 * norms, 1e-200 * smoothness, resamples=300)
    assert other.l0 == pytest.approx(1e-200 * fit.l0)
    assert other.l1_error == pytest.approx(1e-203 * fit.l1_error)
    assert fit == fit_smoothness(norms, smoothness, resamples=300)
    assert fit != fit_smoothness(norms, smoothness, resamples=300, seed=1)


def test_the_bootstrap_knows_how_sure_the_line_is():
    fits = [fit_smoothness(*noisy(seed, 100), resamples=150, block=1) for seed in range(40)]
    for name, true in (("l0", 2), ("l1", 0.7)):
        found = np.array([getattr(fit, name) for fit in fits])
        errors = np.array([getattr(fit, f"{name}_error") for fit in fits])
        low, high = np.transpose([getattr(fit, f"{name}_interval") for fit in fits])
        assert np.mean(errors) == pytest.approx(found.std(), rel=0.25)
        assert 0.85 <= np.mean((low <= true) & (true <= high)) <= 1
        assert abs(found.mean() - true) < 4 * found.std() / np.sqrt(40)
    half = fit_smoothness(*noisy(0, 100), resamples=150, block=1, confidence=0.5)
    assert fits[0].l0_interval[0] < half.l0_interval[0] < half.l0_interval[1]
    assert half.l0_interval[1] < fits[0].l0_interval[1]


def test_blocks_see_that_neighbours_err_together():
    norms, smoothness = noisy(3, 400)
    # Every error eight times in a row: as many points, an eighth of the knowledge.
    norms, smoothness = np.repeat(norms[:50], 8), np.repeat(smoothness[:50], 8)
    alone = fit_smoothness(norms, smoothness, block=1, resamples=300)
    blocks = fit_smoothness(norms, smoothness, resamples=300)  # blocks of the cube root, 8
    assert 1.8 < blocks.l1_error / alone.l1_error < 3.5


def test_pairs_without_an_estimate_are_left_out_and_counted():
    norms, smoothness = noisy(1)
    spoiled = np.insert(norms, [0, 7, 150], [np.nan, 1, np.inf])
    values = np.insert(smoothness, [0, 7, 150], [1, 0, 1])
    fit, clean = (fit_smoothness(*pairs, resamples=9) for pairs in ((spoiled, values), noisy(1)))
    assert (fit.n, fit.skipped, clean.skipped) == (150, 3, 0)
    assert (fit.l0, fit.l1) == (clean.l0, clean.l1)
    at_rest = fit_smoothness(np.zeros(5), np.full(5, 3.0), resamples=9)
    assert (at_rest.l0, at_rest.l1) == (pytest.approx(3), 0)
    constant = fit_smoothness(np.full(5, 2.0), np.full(5, 3.0), resamples=9)
    assert (constant.l0, constant.l1) == (pytest.approx(3), 0)


def shifted(x, shift, scale):
    return {"w": scale * (x["w"] - shift)}


def test_the_noise_is_the_distance_from_the_mean(x64):
    random = np.random.default_rng(0)
    shifts = random.normal(size=(30, 4))
    batches = [(shift, 3.0) for shift in shifts]
    at = {"w": np.ones(4)}
    found = gradient_noise(shifted, at, batches)
    expected = 3 * np.linalg.norm(shifts - shifts.mean(axis=0), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    spoiled = [*batches[:5], (np.full(4, np.nan), 1.0), *batches[5:], (np.full(4, np.inf), 1.0)]
    norms = gradient_noise(shifted, at, spoiled)
    assert np.isinf(norms[[5, -1]]).all()
    np.testing.assert_allclose(np.delete(norms, [5, -1]), expected, rtol=1e-12)
    assert tail_shares(norms).skipped == 2
    assert gradient_noise(shifted, at, []).shape == (0,)
    with pytest.raises(TypeError, match="`batches` must be such that it can be gone through twice"):
        gradient_noise(shifted, at, iter(batches))


def test_the_tail_is_compared_with_a_normal_law():
    random = np.random.default_rng(0)
    normal = tail_shares(random.normal(size=400_000))
    assert normal.relative_moderate == pytest.approx(1, rel=0.1)
    assert normal.extreme < 1e-5
    assert normal.moderate / normal.relative_moderate == pytest.approx(
        scipy.stats.norm.sf(4 * scipy.stats.norm.ppf(0.75))
    )
    pareto = tail_shares(random.pareto(1.5, 20_000))
    lower, upper = (0.75 ** (-1 / 1.5) - 1, 0.25 ** (-1 / 1.5) - 1)
    shares = [(1 + upper + reach * (upper - lower)) ** -1.5 for reach in (1.5, 3)]
    np.testing.assert_allclose([pareto.moderate, pareto.extreme], shares, rtol=0.1)
    extreme = scipy.stats.norm.sf(7 * scipy.stats.norm.ppf(0.75))
    assert pareto.relative_extreme == pytest.approx(pareto.extreme / extreme)
    assert tail_shares(np.ones(9)).moderate == 0


WRONG = [
    (lambda: local_smoothness(fourth, 1.0, 2.0, points=0), "`points` must be at least 1, got 0"),
    (lambda: SmoothnessRecorder(fourth, every=0), "`every` must be at least 1, got 0"),
    (lambda: fit_smoothness([1, 2, 3], [1, 2]), "`smoothness` must be a vector as long as"),
    (lambda: fit_smoothness([-1, 2, 3], [1, 2, 3]), "`grad_norms` must be non-negative, got -1"),
    (lambda: fit_smoothness([1, 2, 3], [1, 2, -3]), "`smoothness` must be non-negative, got -3"),
    (lambda: fit_smoothness([1, 2, 3], [1, 2, 0]), "at least 3 usable entries, got 2"),
    (lambda: fit_smoothness([1] * 3, [1] * 3, confidence=1), r"`confidence` must be in \(0, 1\)"),
    (lambda: fit_smoothness([1] * 3, [1] * 3, resamples=1), "`resamples` must be at least 2"),
    (lambda: fit_smoothness([1] * 3, [1] * 3, block=0), "`block` must be at least 1, got 0"),
    (lambda: tail_shares([1, 2, np.nan, 3]), "`norms` must have at least 4 finite entries, got 3"),
    (lambda: tail_shares(np.ones((4, 4))), r"`norms` must be a vector, got an array of shape"),
    (lambda: SmoothnessRecorder(fourth).fit(), "at least 3 usable entries, got 0"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
