"""Runs under heavy-tailed gradients, and the states that they leave."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax

STEPS = 600


def gradients(index=1.6, seed=0):
    """Gradients with Pareto norms, in two leaves."""
    random = np.random.default_rng(seed)
    norms = (1 - random.random(STEPS)) ** (-1 / index)
    return norms, of_norms(norms)


def of_norms(norms):
    norms = jnp.asarray(norms, jnp.float32)[:, None]
    return {"a": 0.6 * norms, "b": 0.8 * norms}


def all_states(optimizer, given):
    """The states after each step."""
    start = optimizer.init(jax.tree.map(lambda leaf: leaf[0], given))
    params = jax.tree.map(lambda leaf: leaf[0], given)

    def step(state, gradient):
        _, state = optimizer.update(gradient, state, params)
        return state, state

    return jax.lax.scan(step, start, given)[1]


def at(states, step=-1):
    return jax.tree.map(lambda leaf: leaf[step], states)


def after(optimizer, given):
    """The state behind all gradients."""
    return at(jax.jit(lambda given: all_states(optimizer, given))(given))


def monitored(threshold=1.02):
    return optax.chain(clipax.monitor_norms(), clipax.clip_by_global_norm(threshold))


@jax.jit
def watched(given, threshold=1.02):
    """The states of a monitor and a clip, compiled once for all tests."""
    return all_states(monitored(threshold), given)
