"""Numbers that are added up over as many steps as a long training has, against float64."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax import norms
from clipax._statistics._moving import adagrad, adam
from clipax._statistics._rounding import add_evenly, round_evenly
from clipax.thresholds import Context

OPTIMISED = True
STEPS = 1_000_000
BEGINNING = 0.7


def run(step: Any, state: Any, steps: int = STEPS) -> Any:
    """The state after that many steps."""
    counts = jnp.arange(steps, dtype=jnp.int32)
    return jax.jit(lambda s: jax.lax.scan(lambda s, n: (step(s, n), None), s, counts)[0])(state)


@pytest.mark.parametrize("reweight", [1.0, 0.3])
def test_the_scale_of_adagrad(reweight):
    sizes = np.array([1.0, 0.3, 1e-3, 1e-6, 0.0, 1e30, 1e35], np.float32)
    scale = adagrad(BEGINNING, reweight)
    found = run(lambda b, n: scale.accumulate(b, sizes, n), jnp.full(len(sizes), BEGINNING))
    wide = sizes.astype(np.float64)
    exact = np.sqrt(BEGINNING**2 + STEPS * reweight * wide**2)
    np.testing.assert_allclose(found, np.minimum(exact, np.finfo(np.float32).max), rtol=1e-5)


def test_the_scale_of_adagrad_with_sizes_that_change():
    rng = np.random.default_rng(0)
    sizes = rng.lognormal(size=STEPS).astype(np.float32)
    table = jnp.asarray(sizes)
    scale = adagrad(BEGINNING)
    found = run(lambda b, n: scale.accumulate(b, table[n], n), jnp.float32(BEGINNING))
    exact = math.sqrt(BEGINNING**2 + np.sum(np.square(sizes, dtype=np.float64)))
    assert float(found) == pytest.approx(exact, rel=5e-5)


@pytest.mark.parametrize("b2", [0.9, 0.999, 1 - 1e-5, 1 - 1e-6, 1 - 1e-7])
def test_the_scale_of_adam(b2):
    sizes = np.array([1.0, 0.3, 1e-3, 1e-25, 1e30], np.float32)
    scale = adam(BEGINNING, b2)
    found = run(lambda b, n: scale.accumulate(b, sizes, n), jnp.full(len(sizes), BEGINNING))
    kept = math.exp(STEPS * math.log(b2))
    exact = np.sqrt(kept * BEGINNING**2 + (1 - kept) * sizes.astype(np.float64) ** 2)
    np.testing.assert_allclose(found, np.maximum(exact, 1.2e-38), rtol=1e-5)


def test_scales_rise_and_fall_at_once():
    """A change of orders of magnitude is no small change."""
    count = jnp.int32(0)
    assert adam(1.0, 0.0).accumulate(jnp.float32(1e10), jnp.float32(3.0), count) == 3
    tall = adam(1.0, 0.999).accumulate(jnp.float32(1e-20), jnp.float32(1e20), count)
    assert float(tall) == pytest.approx(1e20 * math.sqrt(0.001), rel=1e-6)
    assert float(adagrad(1.0).accumulate(jnp.float32(3.0), jnp.float32(4.0), count)) == 5


@pytest.mark.parametrize(
    "rule", [norms.adagrad_norm(BEGINNING), norms.adam_norm(BEGINNING, 1 - 1e-6)]
)
def test_rules_round_by_the_count_of_steps(rule):
    step = lambda state, n: rule.update(jnp.float32(1.0), state, Context(n))[1]  # noqa: E731
    found = run(step, rule.init(()))
    kept = math.exp(STEPS * math.log1p(-1e-6))
    exact = (BEGINNING**2 + STEPS, kept * BEGINNING**2 + 1 - kept)
    error = min(abs(float(jax.tree.leaves(found)[0]) / value**0.5 - 1) for value in exact)
    assert error < 1e-5


def test_scales_of_entries():
    optimizer = clipax.clip_adagrad(0.1, 10.0, b_init=1.0)
    gradient = jnp.array([1.0, 0.1])
    state = run(lambda s, n: optimizer.update(gradient, s)[1], optimizer.init(gradient), 300_000)
    exact = np.sqrt(1 + 300_000 * np.array([1.0, 0.01]))
    np.testing.assert_allclose(state[0].memory["scales"], exact, rtol=1e-5)


MOMENTA = {
    "scale_by_norm": (clipax.scale_by_norm(norms.clip(10.0), b1=0.9), 0.9),
    "clip_adam": (clipax.clip_adam(0.1, 10.0, b1=0.99), 0.99),
    "clip_adam_norm": (clipax.clip_adam_norm(0.1, 10.0, b1=0.999), 0.999),
    "acclip": (clipax.acclip(0.1, b1=0.999), 0.999),
}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("name", MOMENTA)
def test_momentum_reaches_its_limit(name, dtype):
    method, decay = MOMENTA[name]
    gradient = jnp.asarray([1.0, -0.3, 0.011, 0.0], dtype)
    steps = math.ceil(20 / (1 - decay))
    state = run(lambda s, n: method.update(gradient, s, gradient)[1], method.init(gradient), steps)
    memory = (state if name == "scale_by_norm" else state[0]).memory["momentum"]
    wide = np.asarray(gradient).astype(np.float64)
    # In float32 a decay of .999 is itself rounded, and the average stops before its last bits.
    precision = float(jnp.finfo(jnp.float32).eps) / (1 - decay)
    np.testing.assert_allclose(np.asarray(memory, np.float64), wide, rtol=precision)


def test_momentum_of_narrow_gradients_follows_noise():
    steps, decay = 20_000, 0.999
    rng = np.random.default_rng(0)
    table = jnp.asarray(0.5 + 0.3 * rng.standard_normal((steps, 4)), jnp.bfloat16)
    method = clipax.scale_by_norm(norms.clip(100.0), b1=decay)
    state = run(lambda s, n: method.update(table[n], s)[1], method.init(table[0]), steps)
    exact = np.zeros(4)
    for gradient in np.asarray(table).astype(np.float64):
        exact += (1 - decay) * (gradient - exact)
    np.testing.assert_allclose(state.memory["momentum"], exact, rtol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("decay", [0.9, 0.99, 0.999])
def test_memory_that_was_made_narrow_does_not_stand_still(decay, dtype):
    """As `optax.tree.map_params` makes it, to save memory."""
    gradient = jnp.array([1.0, -0.3, 0.011, 0.0])
    for method in (
        clipax.scale_by_norm(norms.clip(10.0), b1=decay),
        clipax.stable_adamw(0.1, b1=decay, b2=decay),
    ):
        state = optax.tree.map_params(
            method, lambda leaf: leaf.astype(dtype), method.init(gradient)
        )
        steps = math.ceil(20 / (1 - decay))
        state = run(lambda s, n, m=method: m.update(gradient, s, gradient)[1], state, steps)
        memory = state.memory if hasattr(state, "memory") else state[0].memory
        for name, limit in (("momentum", gradient), ("scales", jnp.abs(gradient))):
            if name in memory:
                np.testing.assert_allclose(
                    np.asarray(memory[name]).astype(np.float64),
                    limit,
                    rtol=3 * float(jnp.finfo(dtype).eps),
                )


def test_rounding_is_to_a_neighbour_and_right_on_average():
    value = jnp.array([1.0, 1.001, -3.3, 1e-30, 0.0, 3e38])
    counts = jnp.arange(4096)
    for dtype in (jnp.bfloat16, jnp.float16):
        some = value if dtype == jnp.bfloat16 else value.at[3].set(0.01).at[5].set(6e4)
        rounded = jax.vmap(lambda n, v=some, d=dtype: round_evenly(v, d, n))(counts)
        assert bool(jnp.all(rounded.astype(dtype).astype(jnp.float32) == rounded))
        last = np.abs(some) * float(jnp.finfo(dtype).eps)
        assert np.all(np.abs(rounded - some) <= last)
        mean = np.mean(np.asarray(rounded, np.float64), axis=0)
        assert np.all(np.abs(mean - np.asarray(some, np.float64)) <= last / 500)
    sums = jax.vmap(lambda n: add_evenly(jnp.float32(1.0), jnp.float32(1e-9), n))(counts)
    assert np.mean(np.asarray(sums, np.float64)) - 1 == pytest.approx(1e-9, rel=0.05)
    still = jax.vmap(lambda n: add_evenly(jnp.float32(1.0), jnp.float32(0.0), n))(counts)
    np.testing.assert_array_equal(still, 1)


def test_derivatives_pass_through_the_rounding():
    slope = jax.grad(lambda v: round_evenly(3 * v, jnp.bfloat16, jnp.int32(1)))(1.234)
    assert slope == 3
    method = clipax.scale_by_norm(norms.clip(100.0), b1=0.75)
    state = method.init(jnp.ones(1, jnp.bfloat16))
    slope = jax.grad(lambda g: method.update(g, state)[0].sum())(jnp.ones(1, jnp.bfloat16))
    assert float(slope[0]) == 0.25
