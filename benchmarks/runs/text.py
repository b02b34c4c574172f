"""A small transformer on Python's own documentation, as in the notebook with the transformer."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from pydoc_data import topics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.runs.task import Task

WIDTH, LAYERS, HEADS, LENGTH, ALPHABET = 64, 2, 4, 64, 95


@cache
def read_tokens() -> np.ndarray:
    """Returns the text as places in the alphabet of its most common characters."""
    text = "\n\n".join(topics.topics[name] for name in sorted(topics.topics))
    alphabet = [character for character, _ in Counter(text).most_common(ALPHABET)]
    number = {character: place for place, character in enumerate(alphabet)}
    return np.array([number.get(character, 0) for character in text], np.int32)


def _init(key: jax.Array) -> Any:
    keys = iter(jax.random.split(key, 3 + 4 * LAYERS))

    def matrix(*shape: int) -> jax.Array:
        return jax.random.normal(next(keys), shape) / math.sqrt(shape[0])

    def norm() -> dict[str, jax.Array]:
        return {"scale": jnp.ones(WIDTH), "bias": jnp.zeros(WIDTH)}

    def block() -> dict[str, Any]:
        return {
            "attention_norm": norm(),
            "mix": matrix(WIDTH, 3 * WIDTH),
            "out": matrix(WIDTH, WIDTH),
            "mlp_norm": norm(),
            "up": {"kernel": matrix(WIDTH, 4 * WIDTH), "bias": jnp.zeros(4 * WIDTH)},
            "down": {"kernel": matrix(4 * WIDTH, WIDTH), "bias": jnp.zeros(WIDTH)},
        }

    return {
        "tokens": matrix(ALPHABET, WIDTH) * math.sqrt(ALPHABET / WIDTH),
        "places": matrix(LENGTH, WIDTH),
        "blocks": [block() for _ in range(LAYERS)],
        "norm": norm(),
        "head": {"kernel": matrix(WIDTH, ALPHABET), "bias": jnp.zeros(ALPHABET)},
    }


def _normalise(norm: Any, x: jax.Array) -> jax.Array:
    return jax.nn.standardize(x, axis=-1, epsilon=1e-6) * norm["scale"] + norm["bias"]


def _attend(block: Any, x: jax.Array) -> jax.Array:
    queries, keys, values = (
        one.reshape(*x.shape[:-1], HEADS, -1) for one in jnp.split(x @ block["mix"], 3, axis=-1)
    )
    mixed = jax.nn.dot_product_attention(queries, keys, values, is_causal=True)
    return mixed.reshape(x.shape) @ block["out"]


def _loss(params: Any, rows: jax.Array) -> jax.Array:
    x = params["tokens"][rows[:, :-1]] + params["places"]
    for block in params["blocks"]:
        x += _attend(block, _normalise(block["attention_norm"], x))
        inner = _normalise(block["mlp_norm"], x) @ block["up"]["kernel"] + block["up"]["bias"]
        x += jax.nn.gelu(inner) @ block["down"]["kernel"] + block["down"]["bias"]
    logits = _normalise(params["norm"], x) @ params["head"]["kernel"] + params["head"]["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, rows[:, 1:]).mean()


def make_text(batch_size: int) -> Task:
    """Makes the task: which character comes next?"""
    tokens = read_tokens()

    def batch(step: int) -> np.ndarray:
        random = np.random.default_rng([1, step])
        starts = random.integers(len(tokens) - LENGTH - 1, size=batch_size)
        return tokens[starts[:, None] + np.arange(LENGTH + 1)]

    return Task("text", _init(jax.random.key(0)), _loss, batch, rate=1e-2)
