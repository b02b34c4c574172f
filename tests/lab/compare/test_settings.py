"""Settings of a comparison: their ranges, their seeds, and rates read from text."""

from __future__ import annotations

import math

import pytest

from clipax.lab._compare.plan import SELECTION_SEEDS
from clipax.lab._compare.settings import QUICK, Settings, parse_learning_rates
from clipax.lab._errors import InputError

INF = math.inf


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be from 1 to 10,000,000, got 0"),
        ({"seeds": 0}, "seeds must be from 1 to 10,000"),
        ({"seeds": 10**12}, "seeds must be from 1 to 10,000, got"),
        ({"corrupt": -0.1}, "corrupt must be a share from 0 to 1, got -0.1"),
        ({"corrupt": math.nan}, "corrupt must be a share from 0 to 1, got nan"),
        ({"noise_scale": 1e-320}, "noise scale must be positive and finite"),
        ({"noise_scale": 0.0}, "noise scale must be positive and finite"),
        ({"noise_scale": math.nan}, "noise scale must be positive and finite, got nan"),
        ({"learning_rates": (0.1, 0.0)}, "learning rates must be positive and finite, got 0"),
        ({"learning_rates": (INF,)}, "learning rates must be positive and finite, got inf"),
        ({"noise": "pareto"}, "must end in a number"),
        ({"noise": "norm:pareto"}, "must end in a number"),
        ({"noise": "norm:"}, "unknown noise 'norm:'"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Settings(**changes)


def test_learning_rates_are_read_from_text():
    assert parse_learning_rates("1, 0.01,1,1e-1") == (0.01, 0.1, 1.0)
    for text in ("", "a", "0.1;1", "0.1,,1"):
        with pytest.raises(InputError, match="numbers separated by commas"):
            parse_learning_rates(text)


def test_seeds_of_the_results_never_choose():
    assert Settings().test_seeds == tuple(range(4, 20))
    assert not set(Settings(seeds=50).test_seeds) & set(SELECTION_SEEDS)


def test_quick_is_shorter_than_the_default():
    for name, value in QUICK.items():
        assert value < getattr(Settings(), name)


def test_equal_noise_written_differently_is_the_same():
    assert Settings(noise=" norm:pareto:1.50 ") == Settings(noise="norm:pareto:1.5")
    assert Settings(noise="norm:none").noise == "none"
