"""The threshold in an optimizer's state."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax import norms, per_example, thresholds


def inner(params, x):
    return sum(jnp.vdot(one, x) for one in params.values())


def test_the_threshold_in_the_optimizer_s_state_follows_the_median_of_real_examples():
    median, size, total = 5.0, 40, 1.0
    count_noise = size / 20
    split = per_example.noise_split(total, count_noise)
    assert total**-2 == pytest.approx(split**-2 + (2 * count_noise) ** -2)
    follow = norms.observe(thresholds.geometric_quantile(0.5, initial=0.1, noise=count_noise))
    optimizer = optax.chain(clipax.scale_by_norm(follow), optax.sgd(1e-3))
    # Half of the batch is padding, whose norms would be below every threshold.
    grad = clipax.clipped_grad(inner, 1.0, reduction="sum", noise_multiplier=split)
    mask = np.arange(2 * size) < size

    @jax.jit
    def run(examples, keys):
        def step(carry, given):
            params, state = carry
            batch, key = given
            now = per_example.current_threshold(state)
            grads, stats = grad(params, batch, threshold=now, mask=mask, key=key)
            updates, state = optimizer.update(grads, state, params, example_norms=stats.norms)
            return (optax.apply_updates(params, updates), state), (now, stats.clip_fraction)

        params = {"a": jnp.zeros(1)}
        return jax.lax.scan(step, (params, optimizer.init(params)), (examples, keys))[1]

    draw = np.random.default_rng(0)
    examples = draw.lognormal(np.log(median), 1.0, (160, 2 * size, 1)).astype(np.float32)
    examples[:, size:] = 0.0
    found, clipped = run(examples, jax.random.split(jax.random.key(0), 160))
    assert found[0] == np.float32(0.1)
    assert np.exp(np.log(found[100:]).mean()) == pytest.approx(median, rel=0.1)
    assert np.mean(clipped[100:]) == pytest.approx(0.5, abs=0.05)


def test_the_state_must_hold_one_threshold():
    with pytest.raises(ValueError, match=r"`opt_state` must hold one state.*got 0"):
        per_example.current_threshold(optax.sgd(0.1).init({"a": jnp.zeros(1)}))
