"""Diffrax: a neural ordinary differential equation, differentiated through its solver."""

from __future__ import annotations

from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from tests.clients import test_equinox
from tests.clients.suite import Loop, Optimizer, Suite

TIMES = jnp.linspace(0.0, 2.0, 12)
# A spiral that winds inwards.
PATHS = jnp.stack(
    [jnp.exp(-0.3 * TIMES) * jnp.cos(2.0 * TIMES), -jnp.exp(-0.3 * TIMES) * jnp.sin(2.0 * TIMES)],
    axis=-1,
)


def loss(field: eqx.nn.MLP) -> jax.Array:
    """Mean squared distance from the spiral."""
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda _, y, field: field(y)),
        diffrax.Tsit5(),
        t0=0.0,
        t1=2.0,
        dt0=0.1,
        y0=PATHS[0],
        args=field,
        saveat=diffrax.SaveAt(ts=TIMES),
        max_steps=64,
    )
    return jnp.mean((solution.ys - PATHS) ** 2)


def make(optimizer: Optimizer) -> Loop:
    """Diffrax's examples are Equinox's loop."""

    def begin() -> Any:
        field = eqx.nn.MLP(2, 2, 16, 1, activation=jax.nn.softplus, key=jax.random.key(1))
        return field, optimizer.init(eqx.filter(field, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(field: eqx.nn.MLP, state: Any) -> Any:
        value, gradient = eqx.filter_value_and_grad(loss)(field)
        updates, state = optimizer.update(gradient, state, field)
        return (eqx.apply_updates(field, updates), state), value

    return Loop(
        begin,
        lambda kept, _: step(*kept),
        lambda kept: eqx.filter(kept[0], eqx.is_array),
        lambda kept: kept[1],
        test_equinox.store,
        test_equinox.restore,
    )


class TestDiffrax(Suite):
    make = staticmethod(make)
    learning_rate: ClassVar[float] = 0.02
