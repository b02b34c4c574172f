"""Settings of a comparison: their ranges, their seeds, and rates read from text."""

from __future__ import annotations

import math

import pytest

from clipax.lab._compare.settings import QUICK, SELECTION_SEEDS, Settings, parse_learning_rates
from clipax.lab._errors import InputError

INF = math.inf


def settings(**changes):
    return Settings(**{"data": "wine", "steps": 10, "seeds": 3, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "--steps must be from 1 to 10,000,000, got 0"),
        ({"batch_size": -1}, "--batch-size must be from 1 to 100,000"),
        ({"seeds": 0}, "--seeds must be from 1 to 10,000"),
        ({"seeds": 10**12}, "--seeds must be from 1 to 10,000, got"),
        ({"threshold": 1e-320}, "--threshold must be positive and finite"),
        ({"noise_scale": 0.0}, "--noise-scale must be positive and finite"),
        ({"threshold": math.nan}, "--threshold must be positive and finite, got nan"),
        ({"learning_rates": (0.1, 0.0)}, "learning rates must be positive and finite, got 0"),
        ({"learning_rates": (INF,)}, "learning rates must be positive and finite, got inf"),
        ({"noise": "pareto"}, "must end in a number"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        settings(**changes)


def test_learning_rates_are_read_from_text():
    assert parse_learning_rates("1, 0.01,1,1e-1") == (0.01, 0.1, 1.0)
    for text in ("", "a", "0.1;1", "0.1,,1"):
        with pytest.raises(InputError, match="numbers separated by commas"):
            parse_learning_rates(text)


def test_seeds_of_the_results_never_choose():
    assert Settings().test_seeds == tuple(range(4, 12))
    assert not set(Settings(seeds=50).test_seeds) & set(SELECTION_SEEDS)


def test_quick_is_shorter_than_the_default():
    for name, value in QUICK.items():
        assert value < getattr(Settings(), name)
