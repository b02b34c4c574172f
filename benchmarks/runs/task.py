"""A task to train on, and how it is trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax

WARM_UP = 0.1
"""The share of the steps in which the rate rises, as in the notebook with the transformer."""


class Task(NamedTuple):
    """What is trained.

    Attributes:
      name: Of the task.
      params: Initial parameters.
      loss: From parameters and a batch to the loss.
      batch: From the number of a step to a batch.
      rate: The largest learning rate of AdamW.
    """

    name: str
    params: Any
    loss: Callable[[Any, Any], jax.Array]
    batch: Callable[[int], Any]
    rate: float


def adamw(task: Task, steps: int) -> optax.GradientTransformation:
    """Makes the optimizer of the reference runs."""
    warm_up = max(1, round(WARM_UP * steps))
    rate = optax.warmup_cosine_decay_schedule(0.0, task.rate, warm_up, steps)
    return optax.adamw(rate, weight_decay=0.01)


@partial(jax.jit, static_argnums=(0, 1))
def _step(task_loss: Any, optimizer: Any, params: Any, state: Any, batch: Any) -> Any:
    loss, gradient = jax.value_and_grad(task_loss)(params, batch)
    updates, state = optimizer.update(gradient, state, params)
    found = {"loss": loss, "grad_norm": clipax.global_norm(gradient)}
    return optax.apply_updates(params, updates), state, found


def train(
    task: Task,
    optimizer: optax.GradientTransformation,
    steps: int,
    observe: Callable[[int, Any, Any], None] = lambda step, params, state: None,
) -> dict[str, np.ndarray]:
    """Trains, and returns loss and gradient norm of every step.

    Args:
      task: What to train.
      optimizer: How.
      steps: For how long.
      observe: Is shown the parameters before, and the optimizer's state after, each step.
    """
    params, state = task.params, optimizer.init(task.params)
    seen: list[dict[str, jax.Array]] = []
    for step in range(steps):
        before = params
        params, state, found = _step(task.loss, optimizer, params, state, task.batch(step))
        observe(step, before, state)
        seen.append(found)
    return {name: np.asarray(jnp.stack([one[name] for one in seen])) for name in seen[0]}
