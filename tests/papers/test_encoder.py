"""The encoder gives what the published architecture gives, and rows keep sentences apart."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import erf

from benchmarks.papers.encoder import (
    Classifier,
    Size,
    fill,
    pretrained_folder,
    read,
    tokenizer,
)
from benchmarks.papers.packing import Packed, pack, spread

OPTIMISED = True
pytestmark = pytest.mark.thorough

Weights = Mapping[str, np.ndarray]
SMALL = Size(50, places=12, width=12, inner=20, layers=2, heads=3)
SENTENCES = ([3, 9, 49, 7], [1, 2], [8, 8, 8, 0, 5], [2, 9, 7], [5], [49, 1, 1, 3, 5, 0, 7])


def _linear(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    return x @ weights[f"{name}.weight"].T.astype(float) + weights[f"{name}.bias"]


def _norm(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-12)
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _bert(words: list[int], types: list[int], weights: Weights, heads: int) -> np.ndarray:
    """The published forward pass of one sentence, in float64 (arXiv 1810.04805)."""
    x = weights["embeddings.word_embeddings.weight"].astype(float)[words]
    x = x + weights["embeddings.position_embeddings.weight"][: len(words)]
    x = x + weights["embeddings.token_type_embeddings.weight"][types]
    x = _norm(x, weights, "embeddings.LayerNorm")
    place = 0
    while f"encoder.layer.{place}.output.dense.bias" in weights:
        layer, mixed = f"encoder.layer.{place}", []
        q, k, v = (
            np.split(_linear(x, weights, f"{layer}.attention.self.{kind}"), heads, axis=-1)
            for kind in ("query", "key", "value")
        )
        for head in range(heads):
            scores = np.exp(q[head] @ k[head].T / np.sqrt(q[head].shape[-1]))
            mixed.append(scores / scores.sum(axis=-1, keepdims=True) @ v[head])
        branch = _linear(np.concatenate(mixed, -1), weights, f"{layer}.attention.output.dense")
        x = _norm(x + branch, weights, f"{layer}.attention.output.LayerNorm")
        inner = _linear(x, weights, f"{layer}.intermediate.dense")
        inner = inner / 2 * (1 + erf(inner / np.sqrt(2)))
        x = _norm(
            x + _linear(inner, weights, f"{layer}.output.dense"),
            weights,
            f"{layer}.output.LayerNorm",
        )
        place += 1
    return x


def _random(size: Size) -> dict[str, np.ndarray]:
    """Weights of the published names: of deviation .3, so that no part of the sum is small."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (size.words, size.width),
        "embeddings.position_embeddings.weight": (size.places, size.width),
        "embeddings.token_type_embeddings.weight": (2, size.width),
    }
    linear = {"pooler.dense": (size.width, size.width)}
    norms = ["embeddings.LayerNorm"]
    for place in range(size.layers):
        layer = f"encoder.layer.{place}"
        for kind in ("self.query", "self.key", "self.value", "output.dense"):
            linear[f"{layer}.attention.{kind}"] = (size.width, size.width)
        linear[f"{layer}.intermediate.dense"] = (size.inner, size.width)
        linear[f"{layer}.output.dense"] = (size.width, size.inner)
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        shapes |= {f"{name}.weight": (size.width,), f"{name}.bias": (size.width,)}
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


@partial(jax.jit, static_argnums=0)
def _apply(
    graph: nnx.GraphDef[Classifier], params: nnx.State, batch: Packed, types: np.ndarray
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Vectors of the encoder, what the head makes of them, and logits of the sentences."""
    model = nnx.merge(graph, params)
    mask = batch.owners[:, :, None] == batch.owners[:, None]
    vectors = model.encoder(batch.words, batch.places, types, mask)
    vectors = vectors.reshape(-1, vectors.shape[-1])
    return vectors, jnp.tanh(model.pool(vectors)), model(*batch[:-1])


def test_every_sentence_of_a_batch_is_what_it_is_alone() -> None:
    weights, model = _random(SMALL), Classifier(SMALL, 4, rngs=nnx.Rngs(0))
    fill(model, weights)
    batch = pack([np.array(sentence) for sentence in SENTENCES], np.zeros(len(SENTENCES)))
    assert batch.words.shape == (2, 12)
    types = np.arange(24).reshape(2, 12) % 2
    found, _, logits = _apply(*nnx.split(model), batch, types)
    assert logits.shape == (len(SENTENCES), 4)
    for place, (sentence, first) in enumerate(zip(SENTENCES, batch.firsts, strict=True)):
        end = first + len(sentence)
        expected = _bert(sentence, list(types.ravel()[first:end]), weights, SMALL.heads)
        np.testing.assert_allclose(found[first:end], expected, atol=1e-4)
        first_type = _bert(sentence, [0] * len(sentence), weights, SMALL.heads)
        pooled = np.tanh(_linear(first_type[0], weights, "pooler.dense"))
        expected = pooled @ np.asarray(model.out.kernel[...]) + np.asarray(model.out.bias[...])
        np.testing.assert_allclose(logits[place], expected, atol=1e-4)


def test_a_table_of_fewer_words_gives_the_same() -> None:
    weights, kept = _random(SMALL), np.array([0, 1, 2, 3, 5, 7, 8, 9, 49])
    few = Classifier(Size(9, 12, 12, 20, 2, 3), 4, rngs=nnx.Rngs(0))
    fill(few, weights, kept)
    batch = pack([np.searchsorted(kept, sentence) for sentence in SENTENCES[:3]], np.zeros(3))
    found, _, _ = _apply(*nnx.split(few), batch, np.zeros_like(batch.words))
    expected = _bert(SENTENCES[1], [0] * 2, weights, SMALL.heads)
    np.testing.assert_allclose(found[batch.firsts[1] :][:2], expected, atol=1e-4)


def test_weights_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(50, 12\) where \(40, 12\)"):
        fill(Classifier(Size(40, 12, 12, 20, 2, 3), 4, rngs=nnx.Rngs(0)), _random(SMALL))


def test_batches_of_a_set_hold_every_sentence_once_and_within_a_row() -> None:
    rng = np.random.default_rng(0)
    sentences = [np.full(size, i) for i, size in enumerate(rng.integers(1, 30, size=50))]
    batches = spread(sentences, np.arange(50), 4)
    shapes = {(batch.words.shape, batch.classes.shape) for batch in batches}
    assert len(shapes) == 1
    (rows, length), _ = shapes.pop()
    assert rows == 4
    assert length < 1.2 * sum(map(len, sentences)) / 16  # of as many rows
    seen = np.concatenate([batch.classes for batch in batches])
    np.testing.assert_array_equal(np.sort(seen[seen >= 0]), np.arange(50))
    for batch in batches:
        for owner, (first, mark) in enumerate(zip(batch.firsts, batch.classes, strict=True)):
            word = batch.words.ravel()[first]
            assert mark in (-1, word)
            row, start = divmod(first, length)
            here = row, slice(start, start + len(sentences[word]))
            assert np.all(batch.words[here] == word)
            assert np.all(batch.owners[here] == owner)
            assert np.sum(batch.owners == owner) == len(sentences[word])
            np.testing.assert_array_equal(batch.places[here], np.arange(len(sentences[word])))
        assert np.all(batch.words[batch.owners < 0] == 0)


# By BertModel of transformers 5.24 on torch 2.15, in float64, with the same weights: the entries of
# the first vector, of the last one, and of the pooled one, and the norm of all vectors.
PUBLISHED = {
    "The sailors rode the breeze clear of the rocks.": (
        [101, 1996, 11279, 8469, 1996, 9478, 3154, 1997, 1996, 5749, 1012, 102],
        [-0.1009372, 0.3760381, 0.6639533, 0.4308709],
        [-0.6709493, -0.0989046, -0.3690109, 0.1140300],
        [-0.0576411, 0.0492789, 0.0175532, 0.0168405],
        31.0429671,
    ),
    "Whom did they say that they ate, unbelievably?": (
        [
            *(101, 3183, 2106, 2027, 2360, 2008, 2027, 8823),
            *(1010, 4895, 8671, 2666, 3567, 6321, 1029, 102),
        ],
        [0.1572277, 0.0213736, 0.2216737, 0.3981423],
        [0.2137364, 0.2310320, 0.2312701, -0.1046132],
        [-0.0155909, -0.0050476, 0.0257104, 0.0787207],
        28.7413580,
    ),
}


@pytest.mark.skipif(pretrained_folder() is None, reason="needs the weights and their readers")
def test_the_pretrained_encoder_is_the_published_one() -> None:
    folder = pretrained_folder()
    assert folder is not None
    weights, size = read(folder), Size(30522)
    model = Classifier(size, 2, rngs=nnx.Rngs(0))
    fill(model, weights)
    sentences = tokenizer(folder)(list(PUBLISHED))
    batch = pack(sentences, np.zeros(2))
    found, tops, _ = _apply(*nnx.split(model), batch, np.zeros_like(batch.words))
    for sentence, first, known in zip(sentences, batch.firsts, PUBLISHED.values(), strict=True):
        words, head, tail, pooled, size_of_all = known
        assert sentence.tolist() == words
        vectors = found[first : first + len(words)]
        expected = _bert(words, [0] * len(words), weights, size.heads)
        np.testing.assert_allclose(vectors, expected, atol=1e-4)
        np.testing.assert_allclose(vectors[0, :4], head, atol=1e-4)
        np.testing.assert_allclose(vectors[-1, -4:], tail, atol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(vectors), size_of_all, rtol=1e-4)
        np.testing.assert_allclose(tops[first, :4], pooled, atol=1e-4)
