"""A small network on scikit-learn's digits."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from benchmarks.runs.task import Task

SIZES = (64, 128, 128, 10)


def _loss(params: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    x, labels = batch
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
    logits = x @ params[-1]["kernel"] + params[-1]["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def make_digits(batch_size: int) -> Task:
    """Makes the task: which digit is it?"""
    images, labels = load_digits(return_X_y=True)
    images, labels = (images / 16).astype(np.float32), labels.astype(np.int32)
    keys = jax.random.split(jax.random.key(0), len(SIZES) - 1)
    params = [
        {
            "kernel": jax.random.normal(key, (rows, columns)) * math.sqrt(2 / rows),
            "bias": jnp.zeros(columns),
        }
        for key, rows, columns in zip(keys, SIZES[:-1], SIZES[1:], strict=True)
    ]

    def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = np.random.default_rng([1, step]).integers(len(labels), size=batch_size)
        return images[chosen], labels[chosen]

    return Task("digits", params, _loss, batch, rate=1e-3)
