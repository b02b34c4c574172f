"""Runs of clipped SGD on one example a step, and how far their mean is from a prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

__all__ = ["Curves", "Sample", "deviation", "rows", "simulated"]

# From a key to the features and, for every optimizer, the error of the label.
Sample = Callable[[jax.Array], tuple[jax.Array, Mapping[str, jax.Array]]]
# By name of the optimizer, a risk for every run (a row) and step.
Curves = dict[str, np.ndarray]


def simulated(
    optimizers: Mapping[str, optax.GradientTransformation],
    sample: Sample,
    risk: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    *,
    steps: int,
    runs: int,
    seed: int,
) -> Curves:
    """Runs optimizers on least squares, all on the same examples.

    Args:
      optimizers: By name.
      sample: Draws an example.
      risk: From the distance to the solution to what is recorded.
      start: The first distance to the solution, a vector.
      steps: How many updates.
      runs: How many runs, independent of one another.
      seed: Of the examples.

    Returns:
      The risks by optimizer: a row for each run and a column for each number of steps, from 0.
    """

    def step(key: jax.Array, carry, count):  # type: ignore[no-untyped-def]
        features, errors = sample(jax.random.fold_in(key, count))
        after = {}
        for name, optimizer in optimizers.items():
            x, state = carry[name]
            updates, state = optimizer.update((features @ x - errors[name]) * features, state)
            after[name] = optax.apply_updates(x, updates), state
        return after, {name: risk(x) for name, (x, _) in carry.items()}

    @jax.jit
    @jax.vmap
    def run(key: jax.Array) -> dict[str, jax.Array]:
        first = {name: (start, optimizer.init(start)) for name, optimizer in optimizers.items()}
        return jax.lax.scan(partial(step, key), first, jnp.arange(steps + 1))[1]

    found = run(jax.random.split(jax.random.key(seed), runs))
    return {name: np.asarray(values, np.float64) for name, values in found.items()}


def rows(risks: np.ndarray) -> np.ndarray:
    """The mean over runs between the 10th and the 90th percentile."""
    low, high = np.percentile(risks, (10, 90), axis=0)
    return np.stack([low, risks.mean(axis=0), high])


def deviation(risks: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """How far the mean over runs is from the prediction, relative to it, at every time."""
    return np.abs(risks.mean(axis=0) / predicted - 1)
