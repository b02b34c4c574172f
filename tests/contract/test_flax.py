"""Flax: the linen TrainState, and the optimizer of NNX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import clipax
from tests.contract.cases import MEASURING, REPRESENTATIVES
from tests.contract.harness import assert_close, assert_same, jitted, method, problem

FULL = pytest.mark.parametrize("name", REPRESENTATIVES)


@FULL
def test_train_state(name: str) -> None:
    params, gradients = problem()
    state = TrainState.create(apply_fn=lambda *_: None, params=params, tx=method(name))
    step = jax.jit(lambda state, gradient: state.apply_gradients(grads=gradient))
    own, wanted = method(name).init(params), params
    for gradient in gradients[:3]:
        state = step(state, gradient)
        update, own = jitted(name)(gradient, own, wanted)
        wanted = optax.apply_updates(wanted, update)
    assert_close(state.params, wanted)
    assert_close(state.opt_state, own)


class _Model(nnx.Module):
    def __init__(self) -> None:
        self.dense = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
        self.scale = nnx.Param(jnp.ones(()))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.scale[...] * self.dense(x)


def _loss(model: _Model, x: jax.Array) -> jax.Array:
    return 10.0 * jnp.sum(model(x) ** 2)


@FULL
def test_nnx_optimizer(name: str) -> None:
    model = _Model()
    optimizer = nnx.Optimizer(model, method(name), wrt=nnx.Param)
    inputs = np.random.default_rng(0).standard_normal((3, 5, 3)).astype(np.float32)

    @nnx.jit
    def step(model: _Model, optimizer: nnx.Optimizer, x: jax.Array) -> Any:
        gradient = nnx.grad(_loss)(model, x)
        optimizer.update(model, gradient)
        return nnx.to_pure_dict(gradient)

    wanted = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    own = method(name).init(wanted)
    for x in inputs:
        gradient = step(model, optimizer, x)
        update, own = jitted(name)(gradient, own, wanted)
        wanted = optax.apply_updates(wanted, update)
    assert_close(nnx.to_pure_dict(nnx.state(model, nnx.Param)), wanted, tolerance=1e-5)


@pytest.mark.parametrize("name", MEASURING)
def test_nnx_and_linen_states_have_the_same_metrics(name: str) -> None:
    model = _Model()
    optimizer = nnx.Optimizer(model, method(name), wrt=nnx.Param)
    gradient = nnx.grad(_loss)(model, jnp.ones((5, 3)))
    pure = nnx.to_pure_dict(gradient)
    own = method(name).init(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    _, own = method(name).update(pure, own, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    optimizer.update(model, gradient)
    assert_same(clipax.metrics(optimizer), clipax.metrics(own))
