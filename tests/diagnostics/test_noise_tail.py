"""The noise of gradients, and its tail beside a normal law's."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize

from clipax.diagnostics import (
    gradient_noise,
    tail_shares,
)


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
