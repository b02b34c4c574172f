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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import clipax
from benchmarks import internals
from clipax.lab.noise import alpha_stable
from clipax.lab.problems import Problem

ALPHA = 1.5
RATE, THRESHOLD = 0.05, 2.0
METHODS = ("clip_sgd", "clip_adagrad_norm")
NUMPY_FLOATS = 10_240
"""Numbers in an array of NumPy's form: as many as ours, so that it stays in the cache too."""

Form = Callable[[], np.ndarray]


def make_quadratic(dim: int) -> Problem:
    """Makes f(x) = |x|^2 / 2 from the vector of ones."""
    return Problem(
        "quadratic",
        jnp.ones(dim),
        lambda x: 0.5 * jnp.sum(x**2),
        lambda x: x,
        optimum_value=0.0,
    )


def our_method(method: str) -> Any:
    """Makes the library's optimizer."""
    return getattr(clipax, method)(RATE, THRESHOLD)


def our_form(method: str, dim: int, runs: int, steps: int) -> Form:
    """Makes what `clipax.lab.simulate` runs, compiled; without compilation and quantiles."""
    problem, width = make_quadratic(dim), internals.tile_width(dim)
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
    """Makes a scan over steps of all runs at once, with noise from `jax.random`."""

    def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
        first, second = jax.random.split(key)
        angle = jax.random.uniform(first, (runs, dim), minval=-math.pi / 2, maxval=math.pi / 2)
        height = jax.random.exponential(second, (runs, dim))
        return _advance(jnp, method, 1, carry[0], carry[1], angle, height), None

    @jax.jit
    def whole(key: jax.Array) -> jax.Array:
        carry = jnp.ones((runs, dim)), jnp.ones((runs, 1))
        (x, _), _ = lax.scan(step, carry, jax.random.split(key, steps))
        return 0.5 * jnp.sum(x**2, axis=1)

    return lambda: np.asarray(whole(jax.random.key(0)))


def numpy_form(method: str, dim: int, runs: int, steps: int, seed: int = 0) -> np.ndarray:
    """Runs NumPy, vectorised over as many runs as stay in the cache, in float32."""
    random = np.random.default_rng(seed)
    size, found = max(1, NUMPY_FLOATS // dim), []
    # The textbook form divides by zero where float32 rounds the angle to the end of its range.
    with np.errstate(all="ignore"):
        for first in range(0, runs, size):
            shape = (dim, min(size, runs - first))
            x, scale = np.ones(shape, np.float32), np.ones(shape[1:], np.float32)
            for _ in range(steps):
                angle = np.float32(math.pi) * (random.random(shape, np.float32) - np.float32(0.5))
                height = random.standard_exponential(shape, np.float32)
                x, scale = _advance(np, method, 0, x, scale, angle, height)
            found.append(np.float32(0.5) * np.sum(x**2, axis=0))
    return np.concatenate(found)


def _advance(xp: Any, method: str, axis: int, x: Any, scale: Any, angle: Any, height: Any) -> Any:
    """A step of many runs, their dimensions along `axis`; noise by Chambers, Mallows and Stuck."""
    along = xp.sin(ALPHA * angle) / xp.cos(angle) ** (1 / ALPHA)
    gradient = x + along * (xp.cos((1 - ALPHA) * angle) / height) ** ((1 - ALPHA) / ALPHA)
    norm = xp.sqrt(xp.sum(gradient**2, axis=axis, keepdims=True))
    gradient = gradient * xp.minimum(1, THRESHOLD / norm)
    if method == "clip_sgd":
        return x - RATE * gradient, scale
    scale = scale + xp.sum(gradient**2, axis=axis, keepdims=True)
    return x - RATE * gradient / xp.sqrt(scale), scale
