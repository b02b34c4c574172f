"""Adam without spikes, its moments reset every so many steps."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest

import clipax
from tests.optimizers.histories import adam_state, follow, ordinary

SPAM = clipax.spam(0.1)


def test_without_spikes_and_resets_it_is_adam():
    gradients = ordinary(60)
    updates, _ = follow(clipax.spam(0.1, reset=None, theta=np.inf), gradients)
    expected, _ = follow(optax.adam(0.1), gradients)
    np.testing.assert_allclose(updates, expected, rtol=2e-5, atol=1e-8)


def test_spikes_are_cut_from_a_step_of_each_cycle_on():
    gradients = np.full((60, 1), 0.5, np.float32)
    gradients[[9, 10, 45]] = 1e6  # steps 10, 11 and 46, from 1
    optimizer = clipax.spam(0.1, theta=25.0, reset=40, clip_from=11)
    _, states = follow(optimizer, gradients)
    scales = adam_state(states)["scales"][:, 0]
    assert scales[9] == pytest.approx(1e6 * 0.001**0.5, rel=1e-4)  # let through
    # The second is within five times the scale that the first has left behind.
    assert scales[10] > scales[9]
    assert scales[38] > 1e4
    assert scales[39] == pytest.approx(0.5 * 0.001**0.5, rel=1e-4)  # forgotten at the 40th
    assert scales[45] > 1e4  # too early again
    late = gradients.copy()
    late[[9, 10, 45]] = 0.5
    late[25] = -1e6
    _, states = follow(optimizer, late)
    before, after = adam_state(states)["scales"][[24, 25], 0]
    assert after == pytest.approx(before * (0.999 + 0.001 * 25) ** 0.5, rel=1e-5)
    momentum = adam_state(states)["momentum"][:, 0]
    assert momentum[25] == pytest.approx(0.9 * momentum[24] - 0.1 * 5 * before, rel=1e-5)


def test_entries_without_a_history_are_not_cut():
    gradients = np.zeros((40, 2), np.float32)
    gradients[:, 0] = 1.0
    gradients[30:, 1] = 1.0
    _, states = follow(SPAM, gradients)
    scales = adam_state(states)["scales"]
    assert scales[30, 1] == pytest.approx(0.001**0.5, rel=1e-4)
    # An entry that saw next to nothing grows out of it.
    gradients[:30, 1] = 1e-12
    gradients = np.concatenate([gradients, np.ones((100, 2), np.float32)])
    updates, states = follow(SPAM, gradients)
    assert adam_state(states)["scales"][-1, 1] > 0.1
    assert updates[-1, 1] < -0.05


def test_a_step_after_a_reset_has_a_fresh_momentum_and_a_warmed_up_rate():
    gradients = ordinary(25)
    optimizer = clipax.spam(1.0, reset=10, warmup=4)
    for bad in (False, True):
        steps = np.insert(gradients, 5, np.nan, axis=0) if bad else gradients
        updates, states = follow(optimizer, steps)
        if bad:  # counts for nothing, not for the resets either
            updates, states = jax.tree.map(lambda leaf: np.delete(leaf, 5, 0), (updates, states))
        momentum, scales = adam_state(states)["momentum"], adam_state(states)["scales"]
        for step in (9, 19):
            np.testing.assert_allclose(momentum[step], 0.1 * gradients[step], rtol=1e-6)
            np.testing.assert_allclose(
                scales[step], 0.001**0.5 * np.abs(gradients[step]), rtol=1e-6
            )
        count = np.arange(1, 26)[:, None]
        full = momentum / (1 - 0.9**count) / (scales / (1 - 0.999**count) ** 0.5)
        warm = [0.01, *(1 - 0.99 * (1 + np.cos(np.pi * k / 5)) / 2 for k in (1, 2, 3)), *[1.0] * 6]
        rate = np.concatenate([np.ones(9), warm, warm[:6]])[:, None]
        np.testing.assert_allclose(updates, -rate * full, rtol=2e-4)


def test_spam_forgets_a_huge_spike():
    gradients = ordinary(110)
    optimizer = clipax.spam(0.1, reset=50, warmup=10)
    plain, _ = follow(optimizer, gradients)
    for start in (4, 30):  # let through, and cut
        spiked = gradients.copy()
        spiked[start] = 1e30
        updates, states = follow(optimizer, spiked)
        assert (adam_state(states)["scales"].max() > 1e28) == (start == 4)
        np.testing.assert_allclose(updates[60:], plain[60:], rtol=1e-5)
