"""Clips of the momentum's entries."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import clipax


def test_no_derivative_of_power_means_is_bad():
    optimizer = clipax.acclip(0.1, alpha=1.5)
    params = jnp.zeros(3)
    state = optimizer.init(params)
    slope = jax.grad(lambda g: optimizer.update(g, state, params)[0].sum())(params)
    assert jnp.isfinite(slope).all()
