"""Compiled loops that the papers' modules share."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

__all__ = ["Gradient", "recorded", "steps_until"]

# From the parameters and the number of steps before this one.
Gradient = Callable[[jax.Array, jax.Array], jax.Array]


def steps_until(
    optimizer: optax.GradientTransformation,
    gradient: Gradient,
    done: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    limit: int = 10_000_000,
) -> jax.Array:
    """Number of updates made until `done`, which is tested before each of them.

    Args:
      optimizer: Makes the updates.
      gradient: Of the objective, noise included.
      done: From the parameters to a boolean scalar.
      start: The parameters before the first update.
      limit: Where to give up.

    Returns:
      A traceable integer scalar; `limit` where the loop gave up.
    """

    def more(carry: tuple[jax.Array, optax.OptState, jax.Array]) -> jax.Array:
        params, _, steps = carry
        return ~done(params) & (steps < limit)

    def step(
        carry: tuple[jax.Array, optax.OptState, jax.Array],
    ) -> tuple[jax.Array, optax.OptState, jax.Array]:
        params, state, steps = carry
        updates, state = optimizer.update(gradient(params, steps), state, params)
        return optax.apply_updates(params, updates), state, steps + 1

    first = (start, optimizer.init(start), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(more, step, first)[2]


def recorded(
    optimizer: optax.GradientTransformation,
    gradient: Gradient,
    record: Callable[[jax.Array, optax.OptState], jax.Array],
    start: jax.Array,
    steps: int,
) -> jax.Array:
    """What is found after each of a fixed number of updates.

    Args:
      optimizer: Makes the updates.
      gradient: Of the objective, noise included.
      record: From the parameters and the optimizer's state to what is to be kept.
      start: The parameters before the first update.
      steps: How many updates.

    Returns:
      A traceable array of `steps` records.
    """

    def step(
        carry: tuple[jax.Array, optax.OptState], count: jax.Array
    ) -> tuple[tuple[jax.Array, optax.OptState], jax.Array]:
        params, state = carry
        updates, state = optimizer.update(gradient(params, count), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), record(params, state)

    return jax.lax.scan(step, (start, optimizer.init(start)), jnp.arange(steps))[1]
