"""Run an optimizer on a sequence of gradients: updates and states of all steps."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np


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


def assert_forgotten(optimizer, spike, steps):
    """A spike in the fiftieth gradient leaves no trace in the last steps."""
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
