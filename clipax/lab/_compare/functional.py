"""A task's model as trees of arrays: what is trained, and what else the model remembers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from clipax.lab._compare.tasks.task import Task
from clipax.lab._errors import InputError

__all__ = ["Functional", "Model"]

# From parameters and the rest: both enter and leave compiled functions.
Model = tuple[Any, Any]


class Functional:
    """The functions of a task on trees of arrays.

    A Flax NNX module is split into its `nnx.Param`s and the rest (averages of normalisation layers,
    random streams of dropout), which the loss may change. Any other tree is all parameters.

    Args:
      task: the task.

    Raises:
      InputError: if the model has no parameters, or one that is not of a float type.
    """

    def __init__(self, task: Task):
        self._task = task
        for name in ("init", "loss", "batches"):
            if not callable(getattr(task, name)):
                raise InputError(
                    f"task {task.name}: {name} must be a function, got "
                    f"{type(getattr(task, name)).__name__}."
                )
        model = nnx.eval_shape(task.init, jax.random.key(0))
        self._graph = nnx.graphdef(model) if _is_module(model) else None
        leaves = jax.tree.leaves(self.split(model)[0])
        for leaf in leaves:
            if not (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)):
                raise InputError(
                    f"task {task.name}: init must give a tree of float arrays or a Flax NNX "
                    f"module; one leaf is {getattr(leaf, 'dtype', type(leaf).__name__)}."
                )
        if not leaves:
            raise InputError(f"task {task.name}: the model that init gives has no parameters.")
        self.sizes = tuple(math.prod(leaf.shape) for leaf in leaves)

    def init(self, key: jax.Array) -> Model:
        """Make a model."""
        return self.split(self._task.init(key))

    def split(self, model: Any) -> Model:
        """Split a model into parameters and the rest."""
        if not _is_module(model):
            return model, ()
        state = nnx.state(model)
        params, rest = nnx.split_state(state, nnx.Param, ...)
        return params, rest

    def loss(self, params: Any, rest: Any, batch: Any) -> tuple[jax.Array, Any]:
        """Compute the loss of a batch, and the rest after it."""
        model = self._join(params, rest)
        loss = jnp.asarray(self._task.loss(model, batch))
        if loss.shape != () or not jnp.issubdtype(loss.dtype, jnp.floating):
            raise InputError(
                f"task {self._task.name}: loss must be a scalar of a float type, got "
                f"{loss.dtype}{list(loss.shape)}."
            )
        return loss, self.split(model)[1]

    def evaluate(self, params: Any, rest: Any, batch: Any) -> dict[str, jax.Array]:
        """Compute the loss and other scores of a batch that is held out."""
        model = self._join(params, rest)
        scores = (self._task.evaluate or self._task.loss)(model, batch)
        if not isinstance(scores, Mapping):
            scores = {"loss": scores}
        scores = {name: jnp.asarray(score, jnp.float32) for name, score in scores.items()}
        if "loss" not in scores or any(score.shape != () for score in scores.values()):
            shown = ", ".join(f"{name}{list(score.shape)}" for name, score in scores.items())
            raise InputError(
                f"task {self._task.name}: evaluate must give a scalar, or a dictionary of scalars "
                f"with the key 'loss'; got {shown or 'nothing'}."
            )
        return scores

    def _join(self, params: Any, rest: Any) -> Any:
        if self._graph is None:
            return params
        # New variables: Flax lets a trace change only those that were made in it.
        params, rest = jax.tree.map(lambda leaf: leaf, (params, rest))
        return nnx.merge(self._graph, params, rest)


def _is_module(model: Any) -> bool:
    return isinstance(model, nnx.Module)
