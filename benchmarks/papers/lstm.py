"""A language model of one LSTM layer whose embedding is tied to its output."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

__all__ = ["Memory", "Params", "init", "loss", "start"]

Params = dict[str, jax.Array]
Memory = tuple[jax.Array, jax.Array]


def init(rng: np.random.Generator, vocabulary: int, width: int) -> Params:
    """Draws weights as the code of B. Zhang et al. does: uniform, those of the LSTM as torch's.

    Args:
      rng: Source of the weights.
      vocabulary: How many words or letters there are.
      width: Of the embedding and of the layer.

    Returns:
      The weights.
    """

    def uniform(bound: float, *shape: int) -> jax.Array:
        return jnp.asarray(rng.uniform(-bound, bound, shape), jnp.float32)

    bound = width**-0.5
    return {
        "embed": uniform(0.1, vocabulary, width),
        "inside": uniform(bound, width, 4 * width),
        "recurrent": uniform(bound, width, 4 * width),
        "bias": uniform(bound, 4 * width) + uniform(bound, 4 * width),  # torch has two
        "out_bias": jnp.zeros(vocabulary),
    }


def start(streams: int, width: int) -> Memory:
    """The empty memory of as many texts as are read side by side."""
    return jnp.zeros((streams, width)), jnp.zeros((streams, width))


def loss(params: Params, memory: Memory, batch: jax.Array) -> tuple[jax.Array, Memory]:
    """The mean cross-entropy of the next words, and the memory after the last of them.

    Args:
      params: Of `init`.
      memory: Of `start`, or of the words before.
      batch: Numbers of words, of shape (length + 1, streams): inputs are all but the last, targets
        all but the first.

    Returns:
      Loss and memory.
    """
    inputs = params["embed"][batch[:-1]] @ params["inside"] + params["bias"]

    def cell(memory: Memory, x: jax.Array) -> tuple[Memory, jax.Array]:
        hidden, kept = memory
        i, f, u, o = jnp.split(x + hidden @ params["recurrent"], 4, axis=1)
        kept = jax.nn.sigmoid(f) * kept + jax.nn.sigmoid(i) * jnp.tanh(u)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(kept)
        return (hidden, kept), hidden

    memory, hidden = jax.lax.scan(cell, memory, inputs)
    logits = hidden @ params["embed"].T + params["out_bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1:]).mean(), memory
