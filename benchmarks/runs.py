"""Reference runs of our own: the built-in tasks of `clipax compare`, and others alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax
from clipax.lab._compare.functional import Functional
from clipax.lab._compare.tasks.task import Task

WARM_UP = 0.1
"""The share of the steps in which the rate rises."""

RATES = {"text": 1e-2}
"""The largest learning rate of AdamW, by the first word of a task's name."""
OTHERS = 1e-3


class Run(NamedTuple):
    """What is trained.

    Attributes:
      name: Of the task.
      params: Initial parameters.
      loss: From parameters and a batch to the loss.
      batches: From a seed to batches without end.
      rate: The largest learning rate of AdamW.
    """

    name: str
    params: Any
    loss: Callable[[Any, Any], jax.Array]
    batches: Callable[[int], Iterable[Any]]
    rate: float


def make_run(task: Task) -> Run:
    """Makes a run of a task whose model has parameters alone."""
    functional = Functional(task)
    params, rest = functional.split(task.init(jax.random.key(0)))

    def loss(params: Any, batch: Any) -> jax.Array:
        return functional.loss(params, rest, batch)[0]

    rate = RATES.get(task.name.split(",")[0], OTHERS)
    return Run(task.name, params, loss, task.batches, rate)


def adamw(run: Run, steps: int) -> optax.GradientTransformation:
    """Makes the optimizer of the reference runs."""
    warm_up = max(1, round(WARM_UP * steps))
    rate = optax.warmup_cosine_decay_schedule(0.0, run.rate, warm_up, steps)
    return optax.adamw(rate, weight_decay=0.01)


@partial(jax.jit, static_argnums=(0, 1))
def _step(loss: Any, optimizer: Any, params: Any, state: Any, batch: Any) -> Any:
    value, gradient = jax.value_and_grad(loss)(params, batch)
    updates, state = optimizer.update(gradient, state, params)
    found = {"loss": value, "grad_norm": clipax.global_norm(gradient)}
    return optax.apply_updates(params, updates), state, found


def train(
    run: Run,
    optimizer: optax.GradientTransformation,
    steps: int,
    observe: Callable[[int, Any, Any], None] = lambda step, params, state: None,
) -> dict[str, np.ndarray]:
    """Trains, and returns loss and gradient norm of every step.

    Args:
      run: What to train.
      optimizer: How.
      steps: For how long.
      observe: Is shown the parameters before, and the optimizer's state after, each step.
    """
    params, state = run.params, optimizer.init(run.params)
    seen: list[dict[str, jax.Array]] = []
    for step, batch in zip(range(steps), run.batches(0), strict=False):
        before = params
        params, state, found = _step(run.loss, optimizer, params, state, batch)
        observe(step, before, state)
        seen.append(found)
    return {name: np.asarray(jnp.stack([one[name] for one in seen])) for name in seen[0]}
