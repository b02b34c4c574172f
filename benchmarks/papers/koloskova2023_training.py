"""SGD with clipped examples or a clipped mean, for many thresholds and seeds at once.

A. Koloskova, H. Hendrikx, S. U. Stich, "Revisiting Gradient Clipping: Stochastic bias and tight
convergence guarantees", arXiv 2305.01588.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax

__all__ = ["BATCH", "EXAMPLE", "MEAN", "ONE", "Found", "Problem", "deviation", "train"]

BATCH = 16
EXAMPLE, MEAN, ONE = f"examples, batch {BATCH}", f"mean, batch {BATCH}", "batch 1"


@dataclass(frozen=True)
class Problem:
    """What is minimised.

    Attributes:
      name: Of the data and the model.
      loss: Of one example, from a vector of parameters.
      start: The parameters at first, a row for each seed.
      x: Features, a row for each example.
      y: Labels.
      thresholds: To clip at, ascending; infinity is none.
      rates: Learning rates to choose from.
      steps: How many; the last half is averaged.
      seed: Of the batches.
    """

    name: str
    loss: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    start: jax.Array
    x: jax.Array
    y: jax.Array
    thresholds: tuple[float, ...]
    rates: tuple[float, ...]
    steps: int
    seed: int


@dataclass(frozen=True)
class Found:
    """In the long run: a row for each threshold, a column for each seed.

    Attributes:
      norms: Of the gradient of the whole loss.
      losses: The whole loss.
      means: The parameters, averaged.
    """

    norms: np.ndarray
    losses: np.ndarray
    means: np.ndarray


def train(problem: Problem, kind: str) -> Found:
    """At every threshold, with the rate that is best on the last seed, which is left out."""
    size = 1 if kind == ONE else BATCH
    each = kind != MEAN
    half = problem.steps // 2
    shape = (len(problem.start), 2, half, size)
    picks = np.random.default_rng(problem.seed).integers(len(problem.x), size=shape)
    clipped = clipax.clipped_grad(problem.loss, jnp.inf, microbatch_size=size)

    def mean_loss(params: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.mean(jax.vmap(problem.loss, in_axes=(None, 0, 0))(params, x, y))

    def run(
        threshold: jax.Array, rate: jax.Array, start: jax.Array, picks: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        optimizer = clipax.clip_sgd(rate, jnp.inf if each else threshold)

        def step(carry, rows):  # type: ignore[no-untyped-def]
            params, state, total = carry
            batch = problem.x[rows], problem.y[rows]
            if each:
                grads, _ = clipped(params, *batch, threshold=threshold)
            else:
                grads = jax.grad(mean_loss)(params, *batch)
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state, total + params), None

        zero = jnp.zeros_like(start)
        (params, state, _), _ = jax.lax.scan(step, (start, optimizer.init(start), zero), picks[0])
        (_, _, total), _ = jax.lax.scan(step, (params, state, zero), picks[1])
        mean = total / half
        loss, grads = jax.value_and_grad(mean_loss)(mean, problem.x, problem.y)
        return jnp.linalg.norm(grads), loss, mean

    grid = np.meshgrid(problem.thresholds, problem.rates, indexing="ij")
    thresholds, rates = (jnp.asarray(part.ravel(), jnp.float32) for part in grid)
    over_seeds = jax.vmap(run, in_axes=(None, None, 0, 0))
    program = jax.jit(jax.vmap(over_seeds, in_axes=(0, 0, None, None)))
    norms, losses, means = (
        np.asarray(part).reshape(*grid[0].shape, len(problem.start), -1)
        for part in program(thresholds, rates, problem.start, jnp.asarray(picks))
    )
    best = np.nan_to_num(losses[:, :, -1, 0], nan=np.inf).argmin(axis=1)  # on the last seed
    norms, losses, means = (
        part[np.arange(len(best)), best, :-1] for part in (norms, losses, means)
    )
    return Found(norms[..., 0], losses[..., 0], means)


def deviation(problem: Problem, end: np.ndarray) -> float:
    """Of an example's gradient: at the start or at the end, where it is larger."""

    @jax.jit
    @jax.vmap
    def measure(params: jax.Array) -> jax.Array:
        each = jax.vmap(jax.grad(problem.loss), in_axes=(None, 0, 0))
        grads = each(params, problem.x, problem.y)
        return jnp.sqrt(jnp.mean(jnp.sum((grads - grads.mean(axis=0)) ** 2, axis=1)))

    return float(measure(jnp.stack([problem.start[0], jnp.asarray(end)])).max())
