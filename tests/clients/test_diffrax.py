"""Diffrax: a neural ordinary differential equation, differentiated through its solver."""

from __future__ import annotations

from typing import ClassVar

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


def build() -> eqx.nn.MLP:
    """Make the field, the same at every call."""
    return eqx.nn.MLP(2, 2, 16, 1, activation=jax.nn.softplus, key=jax.random.key(1))


def make(optimizer: Optimizer) -> Loop:
    """Diffrax's examples are Equinox's loop."""
    return test_equinox.make(optimizer, whole=True, build=build, loss=loss)


class TestDiffrax(Suite):
    make = staticmethod(make)
    learning_rate: ClassVar[float] = 0.02
