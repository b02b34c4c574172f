"""Noise for private training, the threshold in the optimizer's state, and what an example moves."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax import norms, per_example, scopes, thresholds


def inner(params, x):
    return sum(jnp.vdot(one, x) for one in params.values())


def test_noise_is_gaussian_in_proportion_to_what_one_example_can_add():
    params = {"a": jnp.zeros((100, 100)), "b": jnp.zeros((100, 100), jnp.bfloat16)}
    batch, threshold, multiplier = jnp.zeros((4, 100, 100)), 0.5, 3.0
    results = {}
    for scope in ("global", "leaf"):
        grad = clipax.clipped_grad(inner, threshold, scope=scope, noise_multiplier=multiplier)
        call = jax.jit(lambda key, grad=grad: grad(params, batch, key=key)[0])
        results[scope] = call(jax.random.key(1)), call(jax.random.key(1)), call(jax.random.key(2))
    for scope, blocks in (("global", 1), ("leaf", 2)):
        first, again, other = jax.tree.map(
            lambda one: np.asarray(one, np.float64).ravel(), results[scope]
        )
        # The mean of four: the noise is added to the sum, once.
        deviation = multiplier * threshold * math.sqrt(blocks) / 4
        for name, drawn in first.items():
            assert drawn.std() == pytest.approx(deviation, rel=0.03)  # 4 standard errors
            assert abs(drawn.mean()) < 4 * deviation / 100
            normal = drawn / deviation
            assert np.mean(np.abs(normal) > 2) == pytest.approx(0.0455, abs=0.0085)
            np.testing.assert_array_equal(drawn, again[name])
            assert abs(np.corrcoef(drawn, other[name])[0, 1]) < 0.04
        assert abs(np.corrcoef(first["a"], first["b"])[0, 1]) < 0.04


def test_one_example_moves_the_noised_sum_by_the_threshold_at_most():
    draw = np.random.default_rng(0)
    params = {"a": jnp.zeros(32)}
    batch = jnp.asarray(draw.normal(size=(6, 32)) * 100, jnp.float32)
    grad = clipax.clipped_grad(inner, 0.5, reduction="sum", noise_multiplier=1.0)
    key = jax.random.key(0)
    call = jax.jit(lambda mask: grad(params, batch, mask=mask, key=key)[0])
    whole, without = call(np.ones(6, bool)), call(np.arange(6) != 2)
    moved = np.linalg.norm(np.asarray(whole["a"], np.float64) - np.asarray(without["a"]))
    assert moved == pytest.approx(0.5, rel=1e-5)


def test_noise_where_nothing_bounds_a_parameter_is_refused():
    grad = clipax.clipped_grad(
        inner, 1.0, scope=scopes.exclude("a", "global"), noise_multiplier=1.0
    )
    with pytest.raises(ValueError, match=r"`scope` must leave no parameter out.*excludes 'a'"):
        grad({"a": jnp.zeros(2), "b": jnp.zeros(2)}, jnp.ones((1, 2)), key=jax.random.key(0))
    with pytest.raises(ValueError, match="`threshold` must be finite with noise"):
        clipax.clipped_grad(inner, math.inf, noise_multiplier=1.0)


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
