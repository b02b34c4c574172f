"""Entries and norms of gradients made ordinary, then Adam with resets."""

from __future__ import annotations

import numpy as np
import pytest

import clipax
from tests.optimizers.histories import adam_state, assert_forgotten, follow, ordinary

STABLE_SPAM = clipax.stable_spam(0.1)


def test_entries_above_the_average_peak_are_rescaled_to_it():
    gradients = np.ones((10, 4), np.float32)
    gradients[9] = [1.0, -1.5, 20.0, -10.0]
    _, states = follow(clipax.stable_spam(0.1, peak_decay=0.5, b1=0.0, reset=None), gradients)
    telemetry = states[0].telemetry
    np.testing.assert_array_equal(telemetry.threshold[:9], 1)
    np.testing.assert_array_equal(telemetry.clipped_count[:, 0], [0] * 9 + [1])
    weight = 0.5 / (1 - 0.5**10)
    limit = 1 + weight * 19
    assert telemetry.threshold[9, 0] == pytest.approx(limit, rel=1e-6)
    cut = np.array([1.0, -1.5, limit, -10.0])
    momentum = adam_state(states)["momentum"][9]
    np.testing.assert_allclose(momentum / momentum[0], cut, rtol=1e-5)


def test_the_first_gradient_has_norm_one_and_a_constant_one_keeps_it():
    gradients = np.tile(np.float32([3.0, 4.0]), (30, 1))
    optimizer = clipax.stable_spam(0.1, b1=0.0, peak_decay=0.0)
    _, states = follow(optimizer, gradients)
    np.testing.assert_allclose(adam_state(states)["momentum"], gradients / 5, rtol=1e-6)
    # Ten times as long all of a sudden: by the root mean square of norms that has not caught up.
    gradients[20] *= 10
    gradients[21:] = 0
    _, states = follow(optimizer, gradients)
    mean = 5 * (1 + 9 * 0.3 / (1 - 0.7**21))
    root = 5 * (1 + 99 * 0.1 / (1 - 0.9**21)) ** 0.5
    size = np.linalg.norm(adam_state(states)["momentum"], axis=-1)
    assert size[20] == pytest.approx(mean / root, rel=1e-5)
    np.testing.assert_array_equal(size[21:], 0)


def test_sizes_of_gradients_do_not_matter():
    gradients = ordinary(40)
    updates, _ = follow(STABLE_SPAM, gradients)
    for size in (1e-4, 1e30):
        scaled, _ = follow(STABLE_SPAM, np.float32(size) * gradients)
        np.testing.assert_allclose(scaled, updates, rtol=1e-3, atol=1e-4)


def test_resets_begin_the_bias_correction_anew():
    gradients = ordinary(30)
    optimizer = clipax.stable_spam(0.1, reset=10)
    updates, _ = follow(optimizer, gradients)
    for step in (0, 9, 19, 29):  # Adam's first step is along the signs
        np.testing.assert_allclose(updates[step], -0.1 * np.sign(gradients[step]), rtol=1e-5)
    assert np.abs(np.abs(updates[10]) - 0.1).max() > 1e-3
    skipped, _ = follow(optimizer, np.insert(gradients, 5, np.inf, axis=0))
    np.testing.assert_allclose(np.delete(skipped, 5, 0), updates, rtol=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "spike", "steps"),
    [
        (STABLE_SPAM, 1e3, 100),  # the sizes that the paper tells of
        (clipax.stable_spam(0.1, square_decay=0.5, peak_decay=0.5, reset=50), 1e30, 400),
    ],
)
def test_a_huge_spike_is_forgotten(optimizer, spike, steps):
    assert_forgotten(optimizer, spike, steps)


def test_a_peak_and_a_norm_that_are_finite_count_however_large() -> None:
    # Their sum would be infinite.
    gradients = np.array([[2e38, 0.0], [2e38, 0.0]], np.float32)
    _, states = follow(clipax.stable_spam(0.1), gradients)
    np.testing.assert_array_equal(states[0].telemetry.nonfinite_count[-1], [0])
    np.testing.assert_array_equal(states[0].rules.after.rows.steps[-1], [2])
