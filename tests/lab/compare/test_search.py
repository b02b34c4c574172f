"""The two rounds of the search, the same number of settings for every method."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clipax.lab._compare.methods import resolve
from clipax.lab._compare.plan import Setting
from clipax.lab._compare.search import choose, list_first, list_second

INF = math.inf
THRESHOLDS = (0.9, 0.5, 2.0, 0.1, 0.7)
PLAIN, CLIPPED = resolve(["adamw", "clip_by_global_norm+adamw"])


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([[3.0, 3.0], [1.0, 1.2], [2.0, 2.0]], 1),
        # One diverged run in two makes a setting worse than a slow one...
        ([[0.8, 0.9], [0.1, INF]], 0),
        # ...but not worse than one that does not learn at all.
        ([[2.3, 2.4], [0.1, INF]], 1),
        # A diverged run is no better than the worst that survived.
        ([[9.0, 9.0], [INF, INF], [8.0, 8.0]], 2),
        ([[INF, INF], [INF, INF]], 0),
    ],
)
def test_the_setting_with_the_best_mean_validation_loss_is_chosen(losses, best):
    assert choose(np.array(losses), untrained=2.3) == best


@pytest.mark.parametrize("rate", PLAIN.rates)
def test_all_methods_have_the_same_number_of_settings(rate):
    for method, thresholds in ((PLAIN, ()), (CLIPPED, THRESHOLDS)):
        first = list_first(method, thresholds)
        best = next(setting for setting in first if setting.rate == rate)
        second = list_second(method, thresholds, best)
        assert (len(first), len(second)) == (4, 4)
        assert len({*first, *second}) == 8


def test_inside_the_rates_thresholds_or_finer_rates_are_tried():
    assert list_second(CLIPPED, THRESHOLDS, Setting(1e-2, 0.9)) == [
        Setting(1e-2, threshold) for threshold in THRESHOLDS[1:]
    ]
    finer = [setting.rate for setting in list_second(PLAIN, (), Setting(1e-2))]
    assert all(3e-3 < rate < 3e-2 for rate in finer)
    assert sorted(rate < 1e-2 for rate in finer) == [False, False, True, True]


@pytest.mark.parametrize(("rate", "beyond"), [(1e-3, (1e-4, 3.3e-4)), (3e-2, (9.1e-2, 0.3))])
def test_at_an_end_of_the_rates_two_are_tried_beyond(rate, beyond):
    for method, thresholds in ((PLAIN, ()), (CLIPPED, THRESHOLDS)):
        threshold = thresholds[0] if thresholds else None
        second = list_second(method, thresholds, Setting(rate, threshold))
        out = sorted(s.rate for s in second if not 1e-3 <= s.rate <= 3e-2)
        np.testing.assert_allclose(out, beyond, rtol=0.1)
    assert [s.threshold for s in list_second(CLIPPED, THRESHOLDS, Setting(rate, 0.9))] == [
        0.9,
        0.9,
        0.5,
        2.0,
    ]


def test_rates_that_were_given_are_all_that_is_tried():
    plain, clipped = resolve(["adamw", "clip_by_global_norm+adamw"], (0.1, 1.0))
    assert list_second(plain, (), Setting(0.1)) == []
    tried = list_second(clipped, THRESHOLDS, Setting(0.1, 0.9))
    assert tried == [Setting(0.1, threshold) for threshold in THRESHOLDS[1:]]
