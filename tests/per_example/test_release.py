"""The noise on the sum over examples."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from clipax import scopes


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
