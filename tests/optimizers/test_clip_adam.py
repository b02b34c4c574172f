"""Clip-AdaGrad and Clip-Adam, entry by entry."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax


def test_coordinate_wise_adagrad_of_one_number_is_adagrad_norm(x64):
    start, steps = jnp.array(3.0), jnp.asarray(np.random.default_rng(1).standard_t(1.5, 50))
    for delay in (None, 1, 3):
        optimizers = (
            clipax.clip_adagrad(0.3, 1.0, b_init=0.5, delay=delay),
            clipax.clip_adagrad_norm(0.3, 1.0, b_init=0.5, delay=delay),
        )

        def run(optimizer):
            def step(carry, gradient):
                params, state = carry
                updates, state = optimizer.update(gradient, state, params)
                return (optax.apply_updates(params, updates), state), params

            return jax.lax.scan(step, (start, optimizer.init(start)), steps)[1]

        one, other = (run(optimizer) for optimizer in optimizers)
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_scales_of_narrow_parameters_do_not_stand_still():
    # In bfloat16 the scale would stop at 256 times the gradient.
    optimizer = clipax.clip_adagrad(1.0, float("inf"), b_init=1e-3)
    params = jnp.ones(1, jnp.bfloat16)

    def step(state, _):
        return optimizer.update(params, state, params)[1], None

    state, _ = jax.lax.scan(step, optimizer.init(params), length=100_000)
    scale = optax.tree.get(state, "scales")[0]
    assert scale == pytest.approx(np.sqrt(1e5), rel=1e-2)
    assert scale.dtype == jnp.float32
