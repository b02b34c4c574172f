"""Classification of examples: scikit-learn's small sets, or a user's file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from clipax.lab._compare.tasks.data import Dataset, Split, load_data
from clipax.lab._compare.tasks.models import check_model, make_model
from clipax.lab._compare.tasks.task import Task

__all__ = ["make_examples_task"]

# Examples in one piece of an evaluation, which bounds its memory.
_PIECE = 512


def make_examples_task(source: str, model: str, batch_size: int) -> Task:
    """Make the task of telling the classes of a data set apart.

    In a corrupt batch the labels are drawn at random.

    Args:
      source: as for `load_data`.
      model: a name of `models.MODELS`.
      batch_size: the number of examples, drawn with replacement, in a batch.

    Returns:
      The task.

    Raises:
      InputError: if the data or the model cannot be used.
    """
    data = load_data(source)
    check_model(model, data)
    train = data.train

    def batches(seed: int) -> Iterator[Any]:
        random = np.random.default_rng([seed, 1])
        while True:
            rows = random.integers(len(train), size=batch_size)
            yield train.x[rows], train.y[rows]

    def corrupt(batch: Any, random: np.random.Generator) -> Any:
        x, y = batch
        return x, random.integers(data.classes, size=y.shape, dtype=y.dtype)

    return Task(
        init=lambda key: make_model(model, data, key),
        loss=lambda network, batch: jnp.mean(_losses(network, *batch)[0]),
        batches=batches,
        validation=_pieces(data.validation),
        test=_pieces(data.test),
        evaluate=_evaluate,
        corrupt=corrupt,
        name=_name(data, model),
        remarks=data.remarks,
    )


def _name(data: Dataset, model: str) -> str:
    return f"{data.name}, {model}"


def _losses(network: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compute the loss of each example, and whether its class is right."""
    logits = network(x)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    return losses, jnp.argmax(logits, -1) == y


def _evaluate(network: Any, pieces: Any) -> dict[str, jax.Array]:
    """Compute mean loss and accuracy over pieces of examples; weight 0 leaves one out."""

    def add(total: tuple[jax.Array, jax.Array], piece: Any) -> tuple[Any, None]:
        x, y, weight = piece
        losses, right = _losses(network, x, y)
        return (total[0] + jnp.sum(losses * weight), total[1] + jnp.sum(right * weight)), None

    zero = jnp.zeros((), jnp.float32)
    (loss, right), _ = jax.lax.scan(add, (zero, zero), pieces)
    count = jnp.sum(pieces[2])
    return {"loss": loss / count, "accuracy": right / count}


def _pieces(split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a split into pieces of equal size; examples of weight 0 pad the last."""
    size = min(_PIECE, len(split))
    count = math.ceil(len(split) / size)
    fill = count * size - len(split)
    x = np.pad(split.x, [(0, fill)] + [(0, 0)] * (split.x.ndim - 1))
    weight = np.pad(np.ones(len(split), np.float32), (0, fill))
    return (
        x.reshape(count, size, *x.shape[1:]),
        np.pad(split.y, (0, fill)).reshape(count, size),
        weight.reshape(count, size),
    )
