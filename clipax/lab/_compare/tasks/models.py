"""The networks that are trained: Flax NNX modules, made from a data set's shape."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from clipax.lab._compare.tasks.data import Dataset
from clipax.lab._errors import InputError

__all__ = ["CNN", "MLP", "MODELS", "check_model", "make_model"]

MODELS = ("mlp", "cnn")


class MLP(nnx.Module):
    """A perceptron with two hidden layers, for examples of any shape.

    Args:
      features: the number of entries of an example.
      classes: the number of classes.
      hidden: the width of the hidden layers.
      rngs: the source of the initial weights.
    """

    def __init__(self, features: int, classes: int, hidden: int = 64, *, rngs: nnx.Rngs):
        self.first = nnx.Linear(features, hidden, rngs=rngs)
        self.second = nnx.Linear(hidden, hidden, rngs=rngs)
        self.last = nnx.Linear(hidden, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits, for a batch of examples."""
        x = x.reshape(x.shape[0], -1)
        x = nnx.relu(self.first(x))
        x = nnx.relu(self.second(x))
        return self.last(x)


class CNN(nnx.Module):
    """Two convolutions, the second with stride 2, and a linear layer, for images.

    Args:
      shape: height, width and channels of an image.
      classes: the number of classes.
      channels: the number of channels of the first convolution; the second has twice as many.
      rngs: the source of the initial weights.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int, channels: int = 8, *, rngs: nnx.Rngs
    ):
        height, width, depth = shape
        self.first = nnx.Conv(depth, channels, (3, 3), rngs=rngs)
        self.second = nnx.Conv(channels, 2 * channels, (3, 3), strides=2, rngs=rngs)
        flat = -(-height // 2) * -(-width // 2) * 2 * channels
        self.last = nnx.Linear(flat, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits, for a batch of images with or without an axis for channels."""
        x = x if x.ndim == 4 else x[..., None]
        x = nnx.relu(self.first(x))
        x = nnx.relu(self.second(x))
        return self.last(x.reshape(x.shape[0], -1))


def check_model(name: str, data: Dataset) -> None:
    """Check that a model can be trained on a data set.

    Args:
      name: one of `MODELS`.
      data: the data set.

    Raises:
      InputError: if the model is unknown, or needs images and the data has none.
    """
    shape = data.train.x.shape[1:]
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}. Known: {', '.join(MODELS)}.")
    if name == "cnn" and len(shape) not in (2, 3):
        raise InputError(
            f"model cnn needs images, examples of shape (height, width) or (height, width, "
            f"channels); those of {data.name} have shape {shape}."
        )


def make_model(name: str, data: Dataset, key: Any) -> nnx.Module:
    """Build a model for a data set.

    Args:
      name: one of `MODELS`, which `check_model` allows.
      data: the data set, whose shapes the model takes.
      key: a JAX random key for the initial weights; it may be traced.

    Returns:
      The NNX module, which maps a batch of examples to logits.
    """
    rngs = nnx.Rngs(key)
    if name == "mlp":
        return MLP(int(data.train.x[0].size), data.classes, rngs=rngs)
    height, width, *depth = data.train.x.shape[1:]
    return CNN((height, width, *(depth or (1,))), data.classes, rngs=rngs)
