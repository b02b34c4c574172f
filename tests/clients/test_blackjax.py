"""BlackJAX: mean-field variational inference, and Stein's variational gradient descent."""

from __future__ import annotations

from typing import Any, ClassVar

import blackjax
import jax
import jax.numpy as jnp

from tests.clients.data import regression
from tests.clients.suite import Loop, Optimizer, Suite
from tests.clients.test_haiku import restore, store

INPUTS, TARGETS = regression()


def log_density(weights: Any) -> jax.Array:
    """A Bayesian linear regression with known noise."""
    predicted = INPUTS @ weights["slope"] + weights["bias"]
    prior = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(weights))
    return -0.5 * jnp.sum((predicted - TARGETS) ** 2) - 0.5 * prior


START = {"bias": jnp.zeros(()), "slope": jnp.zeros(4)}


def meanfield(optimizer: Optimizer) -> Loop:
    """`blackjax.meanfield_vi`, which holds the optimizer."""
    algorithm = blackjax.meanfield_vi(log_density, optimizer, num_samples=8)

    @jax.jit
    def step(kept: Any, index: Any) -> Any:
        kept, info = algorithm.step(jax.random.fold_in(jax.random.key(0), index), kept)
        return kept, info.elbo

    return Loop(
        lambda: algorithm.init(START),
        step,
        lambda kept: (kept.mu, kept.rho),
        lambda kept: kept.opt_state,
        store,
        restore,
    )


def svgd(optimizer: Optimizer) -> Loop:
    """`blackjax.svgd`: the parameters are a cloud of particles."""
    algorithm = blackjax.svgd(jax.grad(log_density), optimizer)
    keys = jax.random.split(jax.random.key(0), 8)
    cloud = jax.vmap(
        lambda key: jax.tree.map(lambda leaf: jax.random.normal(key, leaf.shape), START)
    )(keys)

    @jax.jit
    def step(kept: Any) -> Any:
        loss = -jnp.mean(jax.vmap(log_density)(kept.particles))
        return algorithm.step(kept), loss

    return Loop(
        lambda: algorithm.init(cloud),
        lambda kept, _: step(kept),
        lambda kept: kept.particles,
        lambda kept: kept.opt_state,
        store,
        restore,
    )


class TestMeanfield(Suite):
    make = staticmethod(meanfield)
    max_norm: ClassVar[float] = 20.0


class TestSvgd(Suite):
    make = staticmethod(svgd)
    max_norm: ClassVar[float] = 20.0
