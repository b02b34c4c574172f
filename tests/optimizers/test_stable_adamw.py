"""AdamW, its rate cut for each tensor whose gradient outgrows its second moment."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from tests.optimizers.histories import assert_forgotten, follow, ordinary


def rms_of(states, name="w"):
    return states[0].telemetry.grad_norm[:, 0]


def test_where_it_does_not_clip_it_is_adamw_and_elsewhere_a_shorter_one():
    gradients = ordinary(60) * np.repeat([1.0, 0.1, 30.0], 20)[:, None].astype(np.float32)
    params = jnp.array([1.0, -2.0, 3.0])
    updates, states = follow(clipax.stable_adamw(0.1, weight_decay=0.01), gradients, params)
    expected, _ = follow(optax.adamw(0.1, 0.9, 0.99, 1e-6, weight_decay=0.01), gradients, params)
    size = np.maximum(rms_of(states), 1)[:, None]
    np.testing.assert_allclose(updates * size, expected, rtol=2e-5, atol=1e-7)
    assert 0 < np.mean(size > 1) < 1
    assert size[40] > 5  # a sudden growth
    assert size[0] == 1


def test_leaves_are_clipped_by_themselves():
    gradients = {"calm": ordinary(40), "wild": ordinary(40, seed=1)}
    gradients["wild"][30] = 100.0
    both, states = follow(clipax.stable_adamw(0.1), gradients)
    alone, _ = follow(clipax.stable_adamw(0.1), gradients["calm"])
    np.testing.assert_allclose(both["calm"], alone, rtol=1e-6, atol=1e-8)
    assert states[0].telemetry.clip_factor[30, 0] > 0.7
    assert states[0].telemetry.clip_factor[30, 1] < 0.3


@pytest.mark.parametrize("size", [1e-34, 1e-18, 1e18, 3e38])
def test_ratios_are_right_for_the_largest_and_the_smallest(size):
    gradients = np.float32(size) * np.ones((3, 2), np.float32)
    _, states = follow(clipax.stable_adamw(0.1, eps=1e-37), gradients)
    np.testing.assert_allclose(rms_of(states), 1, rtol=1e-5)


def test_nothing_but_zeros_is_finite_for_the_smallest_eps():
    updates, states = follow(clipax.stable_adamw(0.1, eps=1e-37), np.zeros((2, 2), np.float32))
    np.testing.assert_array_equal(updates, 0)
    np.testing.assert_array_equal(states[0].telemetry.nonfinite_count, 0)


def test_a_huge_spike_is_forgotten():
    assert_forgotten(clipax.stable_adamw(0.1, b1=0.5, b2=0.5), 1e30, 300)
