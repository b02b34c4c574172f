"""A threshold with memory adds a few passes over its window to a training step, no more."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
import optax
import pytest

import clipax
from benchmarks.harness import hlo, trees
from clipax import thresholds
from tests.counts.programs import SCALES, SLACK, TREES, compiled
from tests.thorough import thorough

WINDOW = 1000
PASSES = 120
"""Reads and writes of the window: the scan over ordered norms takes the most, 20 small steps."""
REMEMBERING = {
    "thresholds.quantile": lambda window: thresholds.quantile(0.9, window=window),
    "thresholds.geometric_quantile": lambda window: thresholds.geometric_quantile(noise=1.0),
    "thresholds.percentile": lambda window: thresholds.percentile(window=window),
    "thresholds.tail_power": lambda window: thresholds.tail_power(),
    "thresholds.rms_of_norms": lambda window: thresholds.rms_of_norms(0.5),
    "thresholds.max_ccc": lambda window: thresholds.max_ccc(window=window),
    "thresholds.zscore": lambda window: thresholds.zscore(max_norm=1.0),
    "thresholds.ema": lambda window: thresholds.ema(),
    "thresholds.median": lambda window: thresholds.median(window=window),
    "thresholds.deviation": lambda window: thresholds.deviation(window=window),
}


def program(threshold: Any, tree: str) -> Any:
    """The compiled step of a clip in front of SGD."""
    clip = clipax.clip_by_global_norm(threshold)
    return compiled(optax.chain(clip, optax.sgd(0.1)), tree, "f32")


@functools.cache
def constant_program(tree: str) -> Any:
    """That with a constant."""
    return program(1.0, tree)


# What a threshold decides on is one number, of whatever tree: one of them shows that.
ON_MANY_LEAVES = ("thresholds.quantile", "shallow")
# A histogram, a window that is ordered, and moving averages.
QUICK = [(f"thresholds.{name}", "leaf") for name in ("geometric_quantile", "quantile", "zscore")]


@pytest.mark.parametrize(
    ("name", "tree"), thorough([*((name, "leaf") for name in REMEMBERING), ON_MANY_LEAVES], QUICK)
)
def test_memory_of_norms_costs_its_window_alone(name: str, tree: str) -> None:
    constant = hlo.count(constant_program(tree), large=2 * WINDOW)
    found = hlo.count(program(REMEMBERING[name](WINDOW), tree), large=2 * WINDOW)
    assert 0 <= found.bytes_accessed - constant.bytes_accessed < PASSES * 4 * WINDOW
    assert found.temporaries - constant.temporaries < PASSES * 4 * WINDOW
    # The tree is read as often as before: nothing but the window and scalars is reduced anew.
    assert found.reductions == constant.reductions
    assert found.conditionals == constant.conditionals


@pytest.mark.parametrize("tree", TREES)
def test_a_threshold_of_the_parameters_reads_them_once(tree: str) -> None:
    size = hlo.tree_bytes(trees.parameters(tree, jnp.float32, scale=SCALES[tree]))
    constant = hlo.count(constant_program(tree))
    found = hlo.count(program(thresholds.relative(), tree))
    # One read of the parameters, with the check for overflow that a read has.
    read = found.bytes_accessed - constant.bytes_accessed
    assert size * (1 - SLACK) < read < size * (1 + SLACK)
    assert found.temporaries - constant.temporaries < SLACK * size
    assert found.conditionals == constant.conditionals + 1
