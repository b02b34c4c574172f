"""Thresholds that the convergence theorems prescribe."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax import thresholds


@pytest.mark.parametrize("alpha", [1.1, 1.5, 2.0])
@pytest.mark.parametrize("regime", ["nonconvex", "convex"])
def test_the_threshold_grows_as_the_theorem_says(alpha, regime, x64):
    schedule = thresholds.anytime(3.0, alpha, regime, gamma=2.0)
    values = [float(schedule(count)) for count in (0, 1, 10, 1000, 100_000)]
    times = [1, 2, 11, 1001, 100_001]
    growth = [t * (1 + math.log(t)) ** 2 for t in times]
    if regime == "convex":
        expected = [3 * (26 * one) ** (1 / alpha) for one in growth]
    else:
        expected = [3 * (2 * one) ** (1 / (3 * alpha - 2)) for one in growth]
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    assert values == sorted(values)


def test_the_theorems_threshold_exceeds_the_plain_power():
    counts = jnp.arange(1000)
    for regime in ("convex", "nonconvex"):
        plain = thresholds.power(1.0, 1.5, regime)(counts)
        assert (thresholds.anytime(1.0, 1.5, regime)(counts) > plain).all()


def test_a_fixed_horizon_bounds_the_longest_step():
    threshold = thresholds.fixed_horizon(2.0, 0.01, 999, 0.04, constant=5.0)
    spread = math.log(4 * 1000 / 0.04)
    assert float(threshold(0)) == pytest.approx(2 / (5 * 0.01 * spread))
    assert float(threshold(998)) == float(threshold(0))
    # With a schedule the threshold follows, and the longest step stays what it was.
    rate = optax.cosine_decay_schedule(0.01, 999)
    optimizer = clipax.clip_sgd(rate, thresholds.fixed_horizon(2.0, rate, 999, 0.04, constant=5.0))
    gradient = jnp.array([1e9])
    state = optimizer.init(gradient)
    for _ in range(3):
        update, state = jax.jit(optimizer.update)(gradient, state, gradient)
        assert float(update[0]) == pytest.approx(-2 / (5 * spread), rel=1e-5)


def test_a_rate_of_zero_clips_nothing():
    with jax.debug_infs(True), jax.debug_nans(True):
        schedule = thresholds.fixed_horizon(1.0, lambda count: 0.0 * count, 10, 0.1)
    assert float(schedule(jnp.array(3))) == math.inf


def test_the_theorems_arguments_are_checked():
    for arguments, message in (
        ((0.0, 1.5), "`sigma` must be positive"),
        ((1.0, 1.0), r"`alpha` must be in \(1, 2\]"),
        ((1.0, 1.5, "design"), "`regime` must be one of 'nonconvex', 'convex'"),
    ):
        with pytest.raises(ValueError, match=message):
            thresholds.anytime(*arguments)
    with pytest.raises(ValueError, match="`gamma` must be positive"):
        thresholds.anytime(1.0, 1.5, gamma=0.0)
    good = {"radius": 1.0, "learning_rate": 0.1, "steps": 10, "failure_probability": 0.1}
    for name, bad, message in (
        ("radius", 0.0, "`radius` must be positive"),
        ("learning_rate", 0.0, "`learning_rate` must be positive"),
        ("steps", 0, "`steps` must be at least 1"),
        ("failure_probability", 1.0, r"`failure_probability` must be in \(0, 1\)"),
        ("constant", -1.0, "`constant` must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            thresholds.fixed_horizon(**{**good, name: bad})
