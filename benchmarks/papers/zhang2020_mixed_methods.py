"""The four methods of the training runs as one program, and the claim on their order.

B. Zhang, J. Jin, C. Fang, L. Wang, arXiv 2010.02519, and the settings of the authors' code
(https://github.com/zbh2047/clipping-algorithms).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax
from benchmarks.papers.claims import Claim, at_most
from benchmarks.papers.intervals import of_ratio

__all__ = ["Point", "Settings", "Step", "advance", "begin", "make_step", "order", "shares"]


class Settings(NamedTuple):
    """Arguments of `mixed_clip_sgd`, which has the other methods as its corners.

    Numbers, or arrays of one for each case. `soft`: the response of the authors' code for momentum
    clipping and mixed clipping; their clip is hard.
    """

    learning_rate: Any
    max_step: Any
    nu: Any
    decay: Any
    weight_decay: Any = 0.0
    soft: Any = False


class Point(NamedTuple):
    """Where a run is.

    Attributes:
      params: The parameters.
      state: Of the optimizer.
      carry: What the loss hands from batch to batch, such as an LSTM's memory.
    """

    params: Any
    state: Any
    carry: Any


# From parameters, carry and batch to the loss and the next carry.
Loss = Callable[[Any, Any, Any], tuple[jax.Array, Any]]
# From settings, point and batch to the next point, the loss and the norms over their thresholds.
Step = Callable[[Settings, Point, Any], tuple[Point, jax.Array, jax.Array]]


def begin(settings: Settings, params: Any, carry: Any = ()) -> Point:
    """The point before the first step."""
    return Point(params, _optimizer(settings, jnp.ones_like).init(params), carry)


def make_step(loss: Loss, scale: Callable[[jax.Array], jax.Array] = jnp.ones_like) -> Step:
    """Compiles a step of any of the methods: the settings are traced.

    Args:
      loss: Of a batch.
      scale: From the step's number to the factor of both the rate and the longest step, as in the
        authors' code: the threshold on the norm does not change.
    """

    @jax.jit
    def step(settings: Settings, point: Point, batch: Any) -> tuple[Point, jax.Array, jax.Array]:
        of_batch = jax.value_and_grad(loss, has_aux=True)
        (value, carry), grads = of_batch(point.params, point.carry, batch)
        updates, state = _optimizer(settings, scale).update(grads, point.state, point.params)
        params = optax.apply_updates(point.params, updates)
        return Point(params, state, carry), value, _excess(state)

    return step


def advance(
    step: Step, settings: Settings, point: Point, batches: Iterable[Any]
) -> tuple[Point, np.ndarray, np.ndarray]:
    """Takes a step on each batch.

    The loop is in Python: inside of one of its own XLA computes convolutions ten times as slowly on
    a CPU.

    Returns:
      The point after them, the loss of each batch before its step, and the norms over their
      thresholds: of momentum and gradient, a row a step.
    """
    settings = Settings(*map(jnp.asarray, settings))
    losses, norms = [], []
    for batch in batches:
        point, loss, measured = step(settings, point, batch)
        losses.append(loss)
        norms.append(measured)
    return point, np.array(losses), np.array(norms)


def _optimizer(
    settings: Settings, scale: Callable[[jax.Array], jax.Array]
) -> optax.GradientTransformation:
    hard, soft = (
        clipax.mixed_clip_sgd(
            lambda count: settings.learning_rate * scale(count),
            lambda count: settings.max_step * scale(count),
            nu=settings.nu,
            decay=settings.decay,
            response=response,
            weight_decay=settings.weight_decay,
        )
        for response in ("hard", "soft")
    )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.lax.cond(settings.soft, soft.update, hard.update, updates, state, params)

    return optax.GradientTransformation(hard.init, update)


def _excess(state: Any) -> jax.Array:
    """The last step's norms over their threshold: of the momentum, and of the gradient."""
    found = clipax.metrics(state, top=None)
    names = ("averaged", "gradient")
    return jnp.stack([found[f"grad_norm/{name}"] / found["threshold"] for name in names])


def shares(settings: Settings, norms: np.ndarray) -> str:
    """In words, how often a norm was above its threshold.

    Args:
      settings: Of the method; a norm of no weight in its step is left out.
      norms: What `advance` gave.
    """
    above = np.mean(norms > 1, axis=0)
    weights = (settings.nu, 1 - settings.nu)
    return " and ".join(
        f"{share:.0%} of steps ({name})"
        for share, weight, name in zip(above, weights, ("momentum", "gradient"), strict=True)
        if weight > 0
    )


def order(what: str, ends: Mapping[str, np.ndarray]) -> list[Claim]:
    """Claims that each method ends no higher than the one before it, and the last than the first.

    A seed gives all methods the same start and batches, so what counts is the ratio of two methods
    on it. Its interval is Student's, of the mean logarithm: three seeds are too few to draw again.

    Args:
      what: What is compared, for the claims' names.
      ends: By method, in the paper's order, worst first: a positive figure for each seed.
    """
    claims, names = [], list(ends)
    for worse, better in [*pairwise(names), (names[0], names[-1])]:
        measured, interval = of_ratio(ends[better], ends[worse])
        name = f"{what}: {better} over {worse}"
        claims.append(at_most(name, 1.0, measured, source="paper", interval=interval))
    return claims
