"""Properties of all thresholds with memory: independent blocks, factors of exactly 1, guards."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from clipax import thresholds
from clipax._statistics import _window

REMEMBERING = {
    "thresholds.quantile": thresholds.quantile(0.7, window=12),
    "thresholds.geometric_quantile": thresholds.geometric_quantile(0.6, initial=1.0),
    "thresholds.percentile": thresholds.percentile(60.0, window=12),
    "thresholds.tail_power": thresholds.tail_power(regime="convex", warmup=20, fraction=0.2),
    "thresholds.rms_of_norms": thresholds.rms_of_norms(0.9, decay=0.9),
    "thresholds.max_ccc": thresholds.max_ccc(window=20),
    "thresholds.zscore": thresholds.zscore(0.5, decay=0.9, warmup=5),
    "thresholds.ema": thresholds.ema(1.5, decay=0.5, warmup=0, absolute=np.inf),
    "thresholds.median": thresholds.median(1.5, window=12),
    "thresholds.deviation": thresholds.deviation(0.5, window=8),
}
RULES = {name: clipax.norms.clip(threshold) for name, threshold in REMEMBERING.items()}
COMPENSATED = {
    "rms_clip": clipax.norms.rms_clip(0.5, decay=0.9),
    "max_ccc_clip": clipax.norms.max_ccc_clip(window=20),
}
RULES |= COMPENSATED
EACH = pytest.mark.parametrize("name", RULES)


def run(optimizer, gradients):
    """All updates and the states after them."""

    def step(state, gradient):
        update, state = optimizer.update(gradient, state)
        return state, (update, state)

    return jax.jit(lambda: jax.lax.scan(step, optimizer.init(gradients[0]), gradients)[1])()


def gradients(*shape, seed=0):
    random = np.random.default_rng(seed)
    sizes = np.exp(random.standard_t(2, size=(shape[0],) + (1,) * (len(shape) - 1)))
    return jnp.asarray(sizes * random.normal(size=shape), jnp.float32)


@EACH
def test_gradients_within_the_threshold_are_kept_to_the_bit(name):
    given = gradients(80, 6)
    updates, states = run(clipax.scale_by_norm(RULES[name]), given)
    within = np.asarray(states.telemetry.grad_norm <= states.telemetry.threshold)
    assert 0 < within.sum() < 80
    if name not in COMPENSATED:
        np.testing.assert_array_equal((updates == given).all(axis=1), within)
    sizes = jnp.linalg.norm(updates, axis=1)
    np.testing.assert_allclose(
        sizes, states.telemetry.clip_factor * states.telemetry.grad_norm, rtol=1e-5
    )
    clipped = ~within
    passed = np.minimum(states.telemetry.grad_norm, states.telemetry.threshold)
    factor = np.asarray(sizes / passed)
    if name not in COMPENSATED:
        np.testing.assert_allclose(factor, 1, rtol=1e-5)
    else:
        assert (factor > 1 - 1e-5).all()
        assert (factor[clipped] > 1.01).any()


@EACH
def test_units_are_what_they_are_alone(name):
    # Each column is a block; one of them has a step that is not finite.
    given = gradients(60, 5, 3) * jnp.array([1e-3, 1.0, 1e3])
    given = given.at[20, 2, 1].set(jnp.nan)
    rule = RULES[name]
    updates, _ = run(clipax.scale_by_norm(rule, scope="unit"), given)
    by_itself = jax.jit(lambda column: run(clipax.scale_by_norm(rule), column)[0])
    for column in range(3):
        alone = by_itself(given[:, :, column])
        np.testing.assert_allclose(updates[:, :, column], alone, rtol=1e-5)
    assert (updates[20, :, 1] == 0).all()
    assert (updates[20, :, 0] != 0).all()


@EACH
def test_leaves_of_a_scale_of_their_own_have_their_own_memory(name):
    given = gradients(50, 4)
    tree = {"large": 1e6 * given, "small": given}
    optimizer = clipax.scale_by_norm(RULES[name], scope="leaf")

    def step(state, gradient):
        update, state = optimizer.update(gradient, state)
        return state, update

    start = optimizer.init(jax.tree.map(lambda leaf: leaf[0], tree))
    updates = jax.lax.scan(step, start, tree)[1]
    alone, _ = run(clipax.scale_by_norm(RULES[name]), given)
    np.testing.assert_allclose(updates["small"], alone, rtol=1e-5)


def test_a_window_keeps_its_norms_in_both_orders():
    window = _window
    state, seen = window.init((2,), 7), []
    random = np.random.default_rng(0)
    push = jax.jit(window.update)
    for _ in range(40):
        norms = random.choice([0.0, 1.0, 2.0, 1e-30, 1e30, 3.0], 2).astype(np.float32)
        seen.append(norms)
        state = push(state, norms)
        last = np.array(seen[-7:])
        ring = np.sort(np.asarray(state.norms), axis=1)
        np.testing.assert_array_equal(ring, state.ordered)
        np.testing.assert_array_equal(ring[:, 7 - len(last) :], np.sort(last, axis=0).T)
        assert (state.filled == len(last)).all()
    np.testing.assert_array_equal(
        np.roll(np.asarray(state.norms), -int(state.position[0]), axis=1), np.array(seen[-7:]).T
    )
