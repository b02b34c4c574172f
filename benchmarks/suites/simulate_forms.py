"""The forms of a simulation that are compared, on f(x) = |x|^2 / 2.

All clip stochastic gradients with symmetric alpha-stable noise, from the same start, and give the
suboptimality of the last iterate of each run. Those beside clipax write the two methods out by
hand, without guards and telemetry: as fast as they are straightforward.

Ours is made of private parts of `clipax.lab.simulate`: the function itself compiles its program and
sorts out quantiles at every call, which the other forms do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import clipax
from benchmarks import internals
from clipax.lab.noise import alpha_stable

ALPHA = 1.5
RATE, THRESHOLD = 0.05, 2.0
METHODS = ("clip_sgd", "clip_adagrad_norm")
NUMPY_FLOATS = 10_240
"""Numbers in an array of NumPy's form: as many as ours, so that it stays in the cache too."""

Form = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Quadratic:
    """f(x) = |x|^2 / 2 from the vector of ones."""

    dim: int
    name: str = "quadratic"
    optimum_value: float = 0.0

    @property
    def start(self) -> jax.Array:
        """The vector of ones."""
        return jnp.ones(self.dim)

    def value(self, x: jax.Array) -> jax.Array:
        """The objective."""
        return 0.5 * jnp.sum(x**2)

    def gradient(self, x: jax.Array) -> jax.Array:
        """Its gradient."""
        return x


def our_method(method: str) -> Any:
    """The library's optimizer."""
    return getattr(clipax, method)(RATE, THRESHOLD)


def our_form(method: str, dim: int, runs: int, steps: int) -> Form:
    """What `clipax.lab.simulate` runs, compiled; without compilation and quantiles."""
    problem, width = Quadratic(dim), internals.tile_width(dim)
    program = internals.tile_program(
        lambda _: our_method(method),
        problem,
        alpha_stable(ALPHA),
        problem.value,
        width=width,
        average=False,
        points={},
        count=1,
    )
    keys = internals.step_keys(np.uint32(0), steps + internals.BLOCK)
    tile = internals.compile_tile(program, keys, jnp.array([[0, steps]], jnp.int32), {})

    def run() -> np.ndarray:
        return internals.run_chunks(
            tile, (1, 1), runs=runs, width=width, chunk=1, advance=lambda done, total: None
        )[0, 0]

    return run


def jax_form(method: str, dim: int, runs: int, steps: int) -> Form:
    """A scan over steps of all runs at once, with noise from `jax.random`."""

    def stable(key: jax.Array) -> jax.Array:
        """Chambers, Mallows and Stuck."""
        first, second = jax.random.split(key)
        angle = jax.random.uniform(first, (runs, dim), minval=-math.pi / 2, maxval=math.pi / 2)
        height = jax.random.exponential(second, (runs, dim))
        along = jnp.sin(ALPHA * angle) / jnp.cos(angle) ** (1 / ALPHA)
        return along * (jnp.cos((1 - ALPHA) * angle) / height) ** ((1 - ALPHA) / ALPHA)

    def update(x: jax.Array, scale: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        gradient = x + noise
        gradient = gradient * jnp.minimum(1, THRESHOLD / jnp.sqrt(jnp.sum(gradient**2)))
        if method == "clip_sgd":
            return x - RATE * gradient, scale
        scale = scale + jnp.sum(gradient**2)
        return x - RATE * gradient / jnp.sqrt(scale), scale

    def step(carry: tuple[jax.Array, jax.Array], key: jax.Array) -> tuple[Any, None]:
        return jax.vmap(update)(*carry, stable(key)), None

    @jax.jit
    def whole(key: jax.Array) -> jax.Array:
        carry = jnp.ones((runs, dim)), jnp.ones(runs)
        (x, _), _ = lax.scan(step, carry, jax.random.split(key, steps))
        return 0.5 * jnp.sum(x**2, axis=1)

    return lambda: np.asarray(whole(jax.random.key(0)))


def numpy_form(method: str, dim: int, runs: int, steps: int, seed: int = 0) -> np.ndarray:
    """NumPy, vectorised over as many runs as stay in the cache, in float32."""
    random = np.random.default_rng(seed)
    size = max(1, NUMPY_FLOATS // dim)
    # The textbook form divides by zero where float32 rounds the angle to the end of its range.
    with np.errstate(all="ignore"):
        return np.concatenate(
            [
                _numpy_runs(method, (dim, min(size, runs - first)), steps, random)
                for first in range(0, runs, size)
            ]
        )


def _numpy_runs(
    method: str, shape: tuple[int, int], steps: int, random: np.random.Generator
) -> np.ndarray:
    one, half = np.float32(1), np.float32(0.5)
    alpha, rate, threshold = np.float32(ALPHA), np.float32(RATE), np.float32(THRESHOLD)
    x, scale = np.ones(shape, np.float32), np.ones(shape[1], np.float32)
    for _ in range(steps):
        angle = np.float32(math.pi) * (random.random(shape, np.float32) - half)
        height = random.standard_exponential(shape, np.float32)
        along = np.sin(alpha * angle) / np.cos(angle) ** (one / alpha)
        gradient = x + along * (np.cos((one - alpha) * angle) / height) ** ((one - alpha) / alpha)
        gradient *= np.minimum(one, threshold / np.sqrt(np.sum(gradient**2, axis=0)))
        if method == "clip_sgd":
            x -= rate * gradient
        else:
            scale += np.sum(gradient**2, axis=0)
            x -= rate * gradient / np.sqrt(scale)
    return half * np.sum(x**2, axis=0)
