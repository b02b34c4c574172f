"""Optimizers on a sequence of heavy-tailed gradients, the parameters moving along."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

STEPS = 60


def gradients(seed=0):
    """Heavy-tailed gradients of a small tree, of sizes over four decades."""
    random = np.random.default_rng(seed)
    sizes = 10 ** random.uniform(-2, 2, STEPS)
    draws = [random.standard_t(1.5, shape) for shape in ((STEPS, 3), (STEPS, 2, 2))]
    return [
        {"a": jnp.asarray(size * a), "b": jnp.asarray(size * b)}
        for size, a, b in zip(sizes, *draws, strict=True)
    ]


def walk(optimizer, start=None):
    """The updates on the sequence, the parameters moving along."""
    steps = gradients()
    params = jax.tree.map(jnp.ones_like, steps[0]) if start is None else start
    update = jax.jit(optimizer.update)
    state, updates = optimizer.init(params), []
    for gradient in steps:
        out, state = update(gradient, state, params)
        params = optax.apply_updates(params, out)
        updates.append(out)
    return updates, params, state


def assert_equal_walks(one, other, tolerance=1e-12):
    for step, (mine, theirs) in enumerate(zip(walk(one)[0], walk(other)[0], strict=True)):
        for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=1e-300, err_msg=f"step {step}")
