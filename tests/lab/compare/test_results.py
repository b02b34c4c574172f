"""Results: quantiles that count diverged runs, and the order of methods."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from clipax.lab._compare.results import MethodResult, quantile

INF = math.inf
RESULT = MethodResult(
    method="clip_by_global_norm+sgd",
    plain="sgd",
    argument="max_norm",
    settings=((0.1, 2.0), (1.0, 2.0), (10.0, 0.5)),
    validation_loss=((0.5, 0.6), (0.2, 0.3), (INF, 9.0)),
    chosen=1,
    python="optax.sgd(1)",
    seeds=(2, 3),
    points=(0, 10),
    scores={"loss": ((2.0, 0.25), (2.1, INF)), "accuracy": ((0.1, 0.9), (0.1, 0.0))},
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


@pytest.mark.parametrize(("chosen", "edge"), [(0, "smallest"), (1, None), (2, "largest")])
def test_rates_at_the_edge_are_told(chosen, edge):
    assert replace(RESULT, chosen=chosen).edge == edge


def test_a_single_rate_is_at_no_edge():
    one = replace(RESULT, settings=((1.0, 2.0), (1.0, 3.0)), chosen=0, validation_loss=())
    assert one.edge is None


def test_the_chosen_setting_is_told():
    assert (RESULT.learning_rate, RESULT.threshold) == (1.0, 2.0)
    assert replace(RESULT, chosen=2).threshold == 0.5


def test_results_are_sorted_by_loss_then_divergence():
    good = replace(RESULT, scores={"loss": ((2.0, 0.1), (2.0, 0.2))})
    lost = replace(RESULT, scores={"loss": ((2.0, INF), (2.0, INF))})
    assert sorted([lost, RESULT, good], key=MethodResult.order) == [good, RESULT, lost]


def test_thresholds_at_the_edge_are_told():
    assert (RESULT.threshold_edge, replace(RESULT, chosen=2).threshold_edge) == (
        "largest",
        "smallest",
    )
    rates_only = replace(RESULT, settings=((0.1, None), (1.0, None), (10.0, None)))
    assert rates_only.threshold_edge is None
