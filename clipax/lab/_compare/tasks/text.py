"""A small transformer that reads characters of Python's own documentation."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from clipax.lab._compare.tasks.task import Task

__all__ = ["Transformer", "make_text_task"]

_LETTERS = 95
_WIDTH, _LAYERS, _HEADS, _LENGTH = 32, 2, 4, 32
_EVALUATED = 64


class _Block(nnx.Module):
    """Attention to earlier characters, then a perceptron, each on normalised inputs."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.before_attention = nnx.LayerNorm(width, rngs=rngs)
        self.attend = nnx.Linear(width, 3 * width, use_bias=False, rngs=rngs)
        self.project = nnx.Linear(width, width, use_bias=False, rngs=rngs)
        self.before_mlp = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        batch, length, width = x.shape
        heads = self.attend(self.before_attention(x)).reshape(batch, length, _HEADS, -1)
        query, key, value = jnp.split(heads, 3, axis=-1)
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(width / _HEADS)
        past = jnp.tril(jnp.ones((length, length), bool))
        weights = jax.nn.softmax(jnp.where(past, scores, -1e9))
        x = x + self.project(jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(x.shape))
        return x + self.down(nnx.gelu(self.up(self.before_mlp(x))))


class Transformer(nnx.Module):
    """A decoder: logits of the next character at each place.

    Args:
      letters: the number of characters it knows.
      length: the longest sequence.
      width: the size of its vectors.
      layers: the number of blocks.
      rngs: the source of the initial weights.
    """

    def __init__(
        self,
        letters: int,
        length: int = _LENGTH,
        width: int = _WIDTH,
        layers: int = _LAYERS,
        *,
        rngs: nnx.Rngs,
    ):
        self.letters = nnx.Embed(letters, width, rngs=rngs)
        self.places = nnx.Embed(length, width, rngs=rngs)
        self.blocks = nnx.List([_Block(width, rngs=rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.readout = nnx.Linear(width, letters, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Logits, for a batch of sequences."""
        x = self.letters(tokens) + self.places(jnp.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.readout(self.norm(x))


@functools.cache
def _read_text() -> tuple[np.ndarray, int]:
    """Read the text as numbers of its characters, and count the characters that are known."""
    from pydoc_data import topics

    pages: dict[str, str] = topics.topics
    text = "\n\n".join(pages[name] for name in sorted(pages))
    letters = [letter for letter, _ in Counter(text).most_common(_LETTERS)]
    number = {letter: place for place, letter in enumerate(letters)}
    return np.array([number.get(letter, 0) for letter in text], np.int32), len(letters)


def make_text_task(
    batch_size: int, *, width: int = _WIDTH, layers: int = _LAYERS, length: int = _LENGTH
) -> Task:
    """Make the task: to guess the next character of Python's documentation.

    A corrupt batch repeats one character, another one in each sequence, as a broken file does.

    Args:
      batch_size: the number of sequences in a batch.
      width: as for `Transformer`, like the next two.
      layers: the number of blocks.
      length: the number of characters that are read.

    Returns:
      The task. The last fifth of the text is held out, one half for validation, one for the test.
    """
    tokens, letters = _read_text()
    train, validation, test = np.split(tokens, [len(tokens) * 8 // 10, len(tokens) * 9 // 10])

    def batches(seed: int) -> Iterator[np.ndarray]:
        random = np.random.default_rng([seed, 1])
        while True:
            yield _cut(train, random.integers(len(train) - length - 1, size=batch_size), length)

    def corrupt(batch: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return np.broadcast_to(random.integers(letters, size=(len(batch), 1)), batch.shape).astype(
            np.int32
        )

    def loss(model: Any, rows: Any) -> jax.Array:
        losses = optax.softmax_cross_entropy_with_integer_labels(model(rows[:, :-1]), rows[:, 1:])
        return jnp.mean(losses)

    return Task(
        init=lambda key: Transformer(letters, length, width, layers, rngs=nnx.Rngs(key)),
        loss=loss,
        batches=batches,
        validation=_spread(validation, length),
        test=_spread(test, length),
        corrupt=corrupt,
        name="text, transformer",
    )


def _cut(tokens: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Cut out sequences, each with the character behind it."""
    return tokens[starts[:, None] + np.arange(length + 1)]


def _spread(tokens: np.ndarray, length: int) -> np.ndarray:
    """Cut out sequences that lie evenly in a text."""
    starts = np.linspace(0, len(tokens) - length - 1, _EVALUATED).astype(int)
    return _cut(tokens, starts, length)
