"""Intervals over seeds hold the truth about as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.papers.intervals import bootstrap, of_mean, of_ratio


def _median(x: np.ndarray) -> np.ndarray:
    return np.median(x, axis=-1)


def _ratio(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.mean(x, axis=-1) / np.mean(y, axis=-1)


def test_a_bootstrap_holds_the_median() -> None:
    rng = np.random.default_rng(0)
    found = [bootstrap(_median, rng.normal(3, 1, 20), draws=400) for _ in range(200)]
    assert 0.85 < np.mean([low <= 3 <= high for low, high in found]) < 0.99


def test_the_same_seeds_are_drawn_from_every_sample() -> None:
    seeds = np.random.default_rng(0).normal(100, 30, 20)
    low, high = bootstrap(_ratio, 0.9 * seeds, seeds)
    assert low == pytest.approx(0.9, rel=1e-12)
    assert high == pytest.approx(0.9, rel=1e-12)
    low, high = bootstrap(_ratio, 0.9 * seeds, seeds[::-1])
    assert high - low > 0.1


def test_an_interval_of_a_mean_holds_it() -> None:
    rng = np.random.default_rng(0)
    found = [of_mean(rng.normal(-2, 5, 3)) for _ in range(1000)]
    assert np.mean([low <= -2 <= high for low, high in found]) == pytest.approx(0.95, abs=0.02)
    assert np.mean([low <= 0 <= high for low, high in found]) < 0.94
    # By a table: the quantile for two degrees of freedom is 4.303.
    low, high = of_mean(np.array([1.0, 2.0, 3.0]))
    assert (low + high) / 2 == pytest.approx(2)
    assert (high - low) / 2 == pytest.approx(4.303 / 3**0.5, rel=1e-3)


def test_a_ratio_on_the_same_seeds() -> None:
    seeds = np.array([1.0, 7.0, 100.0])
    ratio, (low, high) = of_ratio(seeds * [0.5, 2.0, 0.5], seeds)
    assert ratio == pytest.approx(2 ** (-1 / 3))
    assert low == pytest.approx(np.exp(of_mean(np.log([0.5, 2.0, 0.5]))[0]))
    assert low * high == pytest.approx(ratio**2)


@pytest.mark.parametrize(
    "samples", [[[1.0]], [[1.0, 2.0], [1.0, 2.0, 3.0]], [[[1.0, 2.0], [3.0, 4.0]]], [1.0]]
)
def test_samples_that_are_no_seeds_are_refused(samples: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="two or more seeds"):
        bootstrap(_ratio, *map(np.asarray, samples))


def test_what_does_not_reduce_is_refused() -> None:
    with pytest.raises(ValueError, match="reduce the last axis"):
        bootstrap(lambda x: x, np.arange(3.0))
    for values in ([1.0], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="two or more numbers"):
            of_mean(np.array(values))
