"""The compiled program of a simulation: a tile of runs from the first step to the last.

Runs are the last axis, so that a tile is a few long vectors that stay in the processor's cache.
Noise is made for a few steps at a time: the loop over these steps keeps XLA from computing it once
more for every array that depends on it. Of the optimizer's state only what the iterates depend on
is carried; telemetry would cost more than the step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import lax

from clipax._platforms import assume_platform, default_platform
from clipax._typing import Array
from clipax.lab._simulate.words import draw_words

__all__ = ["BLOCK", "Law", "Problem", "find_live_leaves", "tile_program"]

BLOCK = 8
"""Steps whose noise is made at once."""

Make = Callable[[dict[str, Array]], optax.GradientTransformation]
"""From hyper-parameters to an optimizer."""


class Law(Protocol):
    """A law of noise, as far as a simulation uses it."""

    @property
    def words(self) -> int:
        """Number of random words in one variate."""
        ...

    def from_words(self, *words: Array) -> Array:
        """Make variates out of words of 32 random bits."""
        ...


class Problem(Protocol):
    """A problem, as far as a simulation uses it."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def start(self) -> Array:
        """The first iterate, a vector."""
        ...

    @property
    def optimum_value(self) -> float | None:
        """The smallest value, where it is known."""
        ...

    def value(self, x: Array) -> Array:
        """Compute the objective."""
        ...

    def gradient(self, x: Array) -> Array:
        """Compute its gradient, without noise."""
        ...


def tile_program(
    make: Make,
    problem: Problem,
    law: Law | None,
    measure: Callable[[Array], Array],
    *,
    width: int,
    average: bool,
    points: dict[str, Array],
    count: int,
) -> Callable[[Array, Array, Array, dict[str, Array]], Array]:
    """Make the program for a tile of `width` runs, for all hyper-parameters at once.

    Args:
      make: From hyper-parameters (scalars) to the optimizer.
      problem: The problem.
      law: The law of the noise, None for none.
      measure: From an iterate to the number that is recorded.
      width: How many runs.
      average: Whether to measure the mean of the iterates.
      points: Hyper-parameters by name, a vector of length `count` each.
      count: How many points of hyper-parameters there are.

    Returns:
      A function of the steps' keys (`BLOCK` more than there are steps), the intervals of steps
      between records `(records, 2)`, the number of the first run and the hyper-parameters (a vector
      of length `count` each, by name). It gives the measures `(records, points, width)`, infinite
      where they are not finite.
    """
    start = jnp.asarray(problem.start, jnp.float32)
    parameters = {name: values[0] for name, values in points.items()}
    structure = jax.tree.structure(jax.eval_shape(lambda: make(parameters).init(start)))
    live = find_live_leaves(make, start, parameters)
    over_runs = jax.vmap(measure, in_axes=-1, out_axes=-1)

    def begin(point: dict[str, Array]) -> list[Array]:
        leaves = jax.tree.leaves(make(point).init(start))
        return [jnp.broadcast_to(leaf[..., None], (*leaf.shape, width)) for leaf in leaves]

    def move(
        point: dict[str, Array], whole: list[Array], x: Array, state: list[Array], noise: Array
    ) -> tuple[Array, list[Array]]:
        """Take one step of all runs; leaves that are not carried keep their initial value."""
        optimizer = make(point)
        leaves = list(whole)
        for place, leaf in zip(live, state, strict=True):
            leaves[place] = leaf

        def one(x: Array, state: Any, noise: Array) -> tuple[Array, Any]:
            updates, state = optimizer.update(problem.gradient(x) + noise, state, x)
            return optax.apply_updates(x, updates), state

        x, after = jax.vmap(one, in_axes=-1, out_axes=-1)(
            x, jax.tree.unflatten(structure, leaves), noise
        )
        news = jax.tree.leaves(after)
        return x, [news[place] for place in live]

    def program(keys: Array, intervals: Array, first: Array, points: dict[str, Array]) -> Array:
        whole = jax.vmap(begin, axis_size=count)(points)
        x = jnp.broadcast_to(start[:, None], (count, len(start), width))

        def block(carry: Any) -> Any:
            step, end, x, mean, state = carry
            noise = jnp.zeros((BLOCK, len(start), 1), jnp.float32)
            if law is not None:
                now = lax.dynamic_slice_in_dim(keys, step, BLOCK)
                noise = law.from_words(*draw_words(now, first, width, len(start), law.words))
            noise = jnp.broadcast_to(noise, (BLOCK, len(start), width))

            def body(place: Array, carry: Any) -> Any:
                x, mean, state = carry
                x, state = jax.vmap(move, in_axes=(0, 0, 0, 0, None))(
                    points, whole, x, state, noise[place]
                )
                if average:
                    mean = mean + (x - mean) / (step + place + 1).astype(jnp.float32)
                return x, mean, state

            length = jnp.minimum(BLOCK, end - step)
            return step + length, end, *lax.fori_loop(0, length, body, (x, mean, state))

        def stretch(carry: Any, interval: Array) -> tuple[Any, Array]:
            _, _, x, mean, state = lax.while_loop(
                lambda carry: carry[0] < carry[1], block, (interval[0], interval[1], *carry)
            )
            values = jax.vmap(over_runs)(mean if average else x)
            return (x, mean, state), jnp.where(jnp.isfinite(values), values, jnp.inf)

        mean = x if average else jnp.zeros((), jnp.float32)
        return lax.scan(stretch, (x, mean, [whole[place] for place in live]), intervals)[1]

    return program


def find_live_leaves(make: Make, start: Array, parameters: dict[str, Array]) -> list[int]:
    """Find the leaves of an optimizer's state on which its updates ever depend, by index."""
    shape = jax.eval_shape(lambda: make(parameters).init(start))
    leaves, structure = jax.tree.flatten(shape)

    def step(leaves: list[Array], x: Array, point: dict[str, Array]) -> tuple[Any, Any]:
        updates, state = make(point).update(x, jax.tree.unflatten(structure, leaves), x)
        return jax.tree.leaves(state), updates

    # Of the forms of other platforms nothing is carried.
    with assume_platform(default_platform()):
        jaxpr = jax.make_jaxpr(step)(leaves, start, parameters).jaxpr
    inputs = jaxpr.invars[: len(leaves)]
    wanted = _find_sources(jaxpr, jaxpr.outvars[len(leaves) :])
    live: set[int] = set()
    while True:
        more = {place for place, variable in enumerate(inputs) if variable in wanted} - live
        if not more:
            return sorted(live)
        live |= more
        wanted |= _find_sources(jaxpr, [jaxpr.outvars[place] for place in more])


def _find_sources(jaxpr: Any, outputs: Sequence[Any]) -> set[Any]:
    """Find the variables that outputs depend on; an equation uses all its inputs."""
    wanted = {variable for variable in outputs if not hasattr(variable, "val")}
    for equation in reversed(jaxpr.eqns):
        if any(variable in wanted for variable in equation.outvars):
            wanted |= {variable for variable in equation.invars if not hasattr(variable, "val")}
    return wanted
