"""The parts of a simulation: random words, intervals, what a scan carries, the bar."""

from __future__ import annotations

import io
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console
from scipy import stats

import clipax
from clipax.lab.simulate import _progress, quantile_interval
from clipax.lab.simulate._program import live_leaves
from clipax.lab.simulate._words import step_keys, threefry, words


def test_words_are_those_of_jax():
    for seed, step, first in ((7, 5, 3), (2**32 - 1, 9, 0)):
        keys = step_keys(np.uint32(seed), 10)
        key = jax.random.fold_in(jax.random.key(seed), step)
        assert np.array_equal(keys[step], jax.random.key_data(key))
        ours = jax.jit(words, static_argnums=(2, 3, 4))(keys[step : step + 1], first, 4, 3, 5)
        with jax.enable_x64(True):
            bits = np.asarray(jax.random.bits(key, (first + 4, 3, 3), "uint64"))[first:]
        for place, word in enumerate(ours):
            half = (bits[..., place // 2] >> (0 if place % 2 else 32)) & 0xFFFFFFFF
            assert np.array_equal(word[0], half.T.astype(np.uint32))
        # A 32-bit word of JAX is both words of a block, added without carry.
        places = jnp.arange(20, dtype=jnp.uint32)
        left, right = jax.jit(threefry)(tuple(keys[step]), (jnp.zeros_like(places), places))
        assert np.array_equal(left ^ right, jax.random.bits(key, (20,)))


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


def test_only_what_iterates_depend_on_is_carried():
    start = jnp.ones(2)
    paths = {
        "sgd": (clipax.clip_sgd(0.1, 1.0), []),
        "adagrad": (clipax.clip_adagrad_norm(0.1, 1.0), ["rows"]),
        "adam": (optax.adam(0.1), ["count", "mu", "nu"]),
        "schedule": (clipax.clip_sgd(lambda count: 0.1 / (count + 1), 1.0), ["count"]),
    }
    for name, (optimizer, expected) in paths.items():
        places = live_leaves(lambda _, one=optimizer: one, start, {})
        leaves = jax.tree.leaves_with_path(optimizer.init(start))
        assert [leaves[place][0][-1].name for place in places] == expected, name


def test_bar_is_for_terminals(monkeypatch):
    for terminal, wanted, shown in ((True, True, True), (True, False, False), (False, True, False)):
        text = io.StringIO()
        console = partial(Console, file=text, force_terminal=terminal, width=60)
        monkeypatch.setattr(_progress, "Console", lambda stderr, made=console: made())
        with _progress.bar_of(wanted) as bar:
            bar("method", 1, 2)
        assert ("method" in text.getvalue()) == shown
