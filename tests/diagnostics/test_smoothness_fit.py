"""The line of smoothness over the gradient's norm."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize

from clipax.diagnostics import (
    fit_smoothness,
)


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
