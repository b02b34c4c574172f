"""Clips of updates and of single entries: StableAdamW, SPAM, Stable-SPAM."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax

STABLE_ADAMW, SPAM, STABLE_SPAM = (
    make(0.1) for make in (clipax.stable_adamw, clipax.spam, clipax.stable_spam)
)
EACH = pytest.mark.parametrize("optimizer", [STABLE_ADAMW, SPAM, STABLE_SPAM])


@functools.cache
def compiled(optimizer):
    return jax.jit(optimizer.update)


def follow(optimizer, gradients, params=None):
    """The updates and states of all steps; leading axis time."""
    params = (
        jax.tree.map(lambda g: jnp.zeros(g.shape[1:], g.dtype), gradients)
        if params is None
        else params
    )
    state, steps = optimizer.init(params), []
    for step in range(len(jax.tree.leaves(gradients)[0])):
        gradient = jax.tree.map(lambda leaf, step=step: leaf[step], gradients)
        update, state = compiled(optimizer)(gradient, state, params)
        steps.append((update, state))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(steps))


def ordinary(steps, size=3, seed=0):
    return np.random.default_rng(seed).normal(size=(steps, size)).astype(np.float32)


def adam_state(states):
    return states[0].memory


# --- StableAdamW


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
    both, states = follow(STABLE_ADAMW, gradients)
    alone, _ = follow(STABLE_ADAMW, gradients["calm"])
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


@EACH
def test_entries_that_never_were_anything_do_not_move_and_do_no_harm(optimizer):
    gradients = ordinary(30)
    gradients[:20, 1] = 0
    updates, _ = follow(optimizer, gradients)
    np.testing.assert_array_equal(updates[:20, 1], 0)
    assert np.abs(updates[20:, 1]).min() > 1e-4
    assert np.isfinite(updates).all()


# --- SPAM


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


# --- Stable-SPAM


def test_entries_above_the_average_peak_are_rescaled_to_it():
    gradients = np.ones((10, 4), np.float32)
    gradients[9] = [1.0, -1.5, 20.0, -10.0]
    _, states = follow(clipax.stable_spam(0.1, peak_decay=0.5, b1=0.0, reset=None), gradients)
    telemetry = states[0]
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
        (clipax.stable_adamw(0.1, b1=0.5, b2=0.5), 1e30, 300),
        (STABLE_SPAM, 1e3, 100),  # the sizes that the paper tells of
        (clipax.stable_spam(0.1, square_decay=0.5, peak_decay=0.5, reset=50), 1e30, 400),
    ],
)
def test_a_huge_spike_is_forgotten(optimizer, spike, steps):
    gradients = ordinary(steps)
    spiked = gradients.copy()
    spiked[50] = spike
    plain, _ = follow(optimizer, gradients)
    updates, states = follow(optimizer, spiked)
    assert np.abs(updates).max() < 1.5
    ratio = np.mean(np.abs(updates[-20:])) / np.mean(np.abs(plain[-20:]))
    assert 0.5 < ratio < 2
    for leaf in jax.tree.leaves(states):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            assert jnp.isfinite(leaf).all()


@EACH
def test_averages_are_kept_in_float32_or_better(optimizer):
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    memory = adam_state(optimizer.init(params))
    assert {leaf.dtype for leaf in jax.tree.leaves(memory)} == {jnp.dtype(jnp.float32)}


@EACH
def test_complex_entries_keep_their_phase(optimizer):
    gradients = ordinary(40) * np.complex64(0.6 + 0.8j)
    gradients[30] *= 1e4
    updates, _ = follow(optimizer, gradients)
    plain, _ = follow(optimizer, gradients.real / np.float32(0.6))
    np.testing.assert_allclose(updates, plain * (0.6 + 0.8j), rtol=1e-4, atol=1e-6)
