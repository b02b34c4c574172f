"""Results: quantiles that count diverged runs, and the order of methods."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from clipax.lab._compare.results import MethodResult, quantile

INF = math.inf
RESULT = MethodResult(
    method="clip_sgd",
    learning_rates=(0.1, 1.0, 10.0),
    validation_loss=((0.5, 0.6), (0.2, 0.3), (INF, 9.0)),
    learning_rate=1.0,
    seeds=(4, 5),
    points=(0, 10),
    loss=((2.0, 0.25), (2.1, INF)),
    accuracy=((0.1, 0.9), (0.1, 0.0)),
    clip_fraction=(0.5, 0.75),
    seconds=1.5,
)


def test_quantiles_of_finite_values_are_numpys():
    values = np.random.default_rng(0).normal(size=9)
    for q in (0.0, 0.05, 0.3, 0.5, 0.95, 1.0):
        assert quantile(values, q) == pytest.approx(np.quantile(values, q))


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [
        ([1.0, INF, 2.0], 0.5, 2.0),
        ([1.0, INF], 0.5, INF),
        ([INF, INF], 0.5, INF),
        ([1.0, 2.0, 3.0, INF], 0.5, 2.5),
        ([1.0, 2.0, 3.0, INF], 0.95, INF),
        ([4.0], 0.05, 4.0),
    ],
)
def test_infinite_values_keep_their_place_in_quantiles(values, q, expected):
    assert quantile(values, q) == expected


def test_the_share_of_diverged_seeds():
    assert RESULT.diverged == 0.5
    assert RESULT.final_loss == (0.25, INF)


@pytest.mark.parametrize(("rate", "edge"), [(0.1, "smallest"), (1.0, None), (10.0, "largest")])
def test_rates_at_the_edge_are_told(rate, edge):
    assert replace(RESULT, learning_rate=rate).edge == edge


def test_a_single_rate_is_at_no_edge():
    assert replace(RESULT, learning_rates=(1.0,), validation_loss=()).edge is None


def test_results_are_sorted_by_loss_then_divergence_then_accuracy():
    good = replace(RESULT, loss=((2.0, 0.1), (2.0, 0.2)))
    lost = replace(RESULT, loss=((2.0, INF), (2.0, INF)), accuracy=((0.1, 0.0), (0.1, 0.0)))
    weak = replace(RESULT, accuracy=((0.1, 0.5), (0.1, 0.0)))
    assert sorted([lost, weak, RESULT, good], key=MethodResult.order) == [good, RESULT, weak, lost]
