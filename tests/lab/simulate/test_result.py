"""Confidence intervals of quantiles: they cover, and are the tightest that do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from clipax.lab import quantile_interval


@pytest.mark.parametrize(("runs", "level"), [(100, 0.5), (1_000, 0.99), (100_000, 0.999)])
def test_intervals_are_the_tightest_that_cover(runs, level):
    low, high = quantile_interval(runs, level, 0.9)
    below, above = stats.binom.cdf(low - 1, runs, level), stats.binom.sf(high - 1, runs, level)
    assert below <= 0.05
    assert above <= 0.05
    assert stats.binom.cdf(low, runs, level) > 0.05
    assert stats.binom.sf(high - 2, runs, level) > 0.05


def test_intervals_cover():
    ranks = quantile_interval(200, 0.9)
    values = np.sort(np.random.default_rng(0).random((4_000, 200)), axis=-1)
    hits = (values[:, ranks[0] - 1] <= 0.9) & (values[:, ranks[1] - 1] > 0.9)
    assert 0.95 - 0.01 < hits.mean() < 0.98
