"""The training runs of mixed clipping: the networks, the data's order, the methods, the claims."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from benchmarks.papers import lstm, resnet
from benchmarks.papers import zhang2020_mixed_cifar as images
from benchmarks.papers import zhang2020_mixed_text as language
from benchmarks.papers.datasets import Words
from benchmarks.papers.paper import Options
from benchmarks.papers.zhang2020_mixed_methods import (
    Settings,
    advance,
    begin,
    make_step,
    order,
    shares,
)

pytestmark = pytest.mark.thorough


def test_the_residual_network_is_the_published_one() -> None:
    rng = np.random.default_rng(0)
    params = resnet.init(rng, 3, (2, 4), 1)
    # Other scales and shifts than those of the start, so that they count.
    params = {name: value + 0.1 * rng.normal(size=value.shape) for name, value in params.items()}
    weights = {name: np.asarray(value, float) for name, value in params.items()}
    x = rng.normal(size=(3, 8, 8, 3))

    def layer(x: np.ndarray, name: str, stride: int = 1) -> np.ndarray:
        kernel = weights[name]
        size, edge = len(kernel), len(kernel) // 2
        padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
        out = np.zeros((len(x), x.shape[1] // stride, x.shape[2] // stride, kernel.shape[-1]))
        for place in np.ndindex(*out.shape[:3]):
            n, row, column = place[0], place[1] * stride, place[2] * stride
            window = padded[n, row : row + size, column : column + size]
            out[place] = np.tensordot(window, kernel, 3)
        out = (out - out.mean((0, 1, 2))) / np.sqrt(out.var((0, 1, 2)) + 1e-5)
        return out * weights[f"{name}_scale"] + weights[f"{name}_shift"]

    first = np.maximum(layer(x, "stem"), 0)
    inner = layer(np.maximum(layer(first, "0.0.a"), 0), "0.0.b")
    second = np.maximum(first + inner, 0)
    inner = layer(np.maximum(layer(second, "1.0.a", 2), 0), "1.0.b")
    third = np.maximum(layer(second, "1.0.skip", 2) + inner, 0)
    expected = third.mean((1, 2)) @ weights["out"] + weights["out_bias"]
    found = jax.jit(resnet.apply, static_argnums=(2, 3))(params, jnp.asarray(x), 2, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_network_for_cifar_has_twenty_layers_of_he_s_variance() -> None:
    sizes = images._FULL
    params = resnet.init(np.random.default_rng(0), 3, sizes.widths, sizes.blocks)
    layers = [name for name in params if name.endswith((".a", ".b")) or name in ("stem", "out")]
    assert len(layers) == 20
    kernel = np.asarray(params["2.1.a"])
    assert kernel.std() == pytest.approx(math.sqrt(2 / (9 * sizes.widths[-1])), rel=0.03)


def test_the_lstm_reads_on_where_it_stopped() -> None:
    rng = np.random.default_rng(0)
    params = lstm.init(rng, 7, 5)
    weights = {name: np.asarray(value, float) for name, value in params.items()}
    words = rng.integers(7, size=(9, 2))

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    hidden, memory, entropies = np.zeros((2, 5)), np.zeros((2, 5)), []
    for now, then in pairwise(words):
        gates = weights["embed"][now] @ weights["inside"] + hidden @ weights["recurrent"]
        i, f, u, o = np.split(gates + weights["bias"], 4, axis=1)  # torch's order
        memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(u)
        hidden = sigmoid(o) * np.tanh(memory)
        logits = hidden @ weights["embed"].T + weights["out_bias"]
        right = logits[np.arange(2), then]
        entropies.append(np.mean(np.log(np.exp(logits).sum(axis=1)) - right))
    state = lstm.start(2, 5)
    loss = jax.jit(lstm.loss)
    first, state = loss(params, state, jnp.asarray(words[:5]))
    second, state = loss(params, state, jnp.asarray(words[4:]))
    assert float(first) == pytest.approx(np.mean(entropies[:4]), rel=1e-5)
    assert float(second) == pytest.approx(np.mean(entropies[4:]), rel=1e-5)
    np.testing.assert_allclose(state[0], hidden, rtol=1e-4)


def test_sequences_follow_one_another_in_their_stream() -> None:
    found = language._streams(np.arange(23), 2, 3)
    assert found.shape == (3, 4, 2)
    assert found[:, 0, 0].tolist() == [0, 3, 6]
    assert found[1, :, 1].tolist() == [14, 15, 16, 17]


def test_rates_are_searched_by_runs_as_long_as_those_that_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = list("abcdefgh" * 40)
    monkeypatch.setattr(language, "words", lambda folder: Words("WikiText-2", text, text[:60]))
    monkeypatch.setattr(language, "_FULL", language._Sizes(6, 4, 2, 5, 3, 2, 50, 2))
    monkeypatch.setattr(language, "_FACTORS", (0.5, 0.01))
    lengths: dict[int, list[int]] = {}
    train = language._train

    def watch(step: Any, settings: Settings, seed: int, *rest: Any) -> Any:
        made = train(step, settings, seed, *rest)
        lengths.setdefault(seed, []).append(len(made["losses"]))
        return made

    monkeypatch.setattr(language, "_train", watch)
    outcome = language.language(Options(data_dir=tmp_path))
    methods = language._SEARCHED
    assert lengths.pop(language._SEARCH_SEED) == [6] * 2 * len(methods)
    assert lengths == {seed: [6] * (4 + len(methods)) for seed in (0, 1)}
    ours = [claim.name for claim in outcome.claims if claim.source == "ours"]
    assert ours == [
        "WikiText-2, validation perplexity, rates searched: mixed clip, decay .9, over mixed clip"
    ]
    assert len(outcome.claims) == 4 + 4 + 1
    assert "after 3, 6 steps: mixed clip " in outcome.notes[-1]


def test_words_that_are_rare_are_one_word() -> None:
    train = ["<unk>"] * 5 + ["a", "a", "b", "b", "b", "c"]
    found, held = language._encode(train, ["c", "a", "d", "b"], 3)
    assert found.tolist() == [0] * 5 + [2, 2, 1, 1, 1, 0]
    assert held.tolist() == [0, 2, 0, 1]


def test_an_epoch_shows_every_image_once_flipped_or_moved() -> None:
    count = 8
    x = np.zeros((count, 8, 8, 1), np.float32)
    x[np.arange(count), 3, 2, 0] = 1 + np.arange(count)  # a mark off the middle
    sizes = images._BUILT_IN._replace(batch=4, epochs=20)
    batches = list(images._batches(np.random.default_rng(0), x, np.arange(count), sizes))
    assert len(batches) == 2 * 20
    places = set()
    for first, second in zip(batches[::2], batches[1::2], strict=True):
        assert sorted([*first[1], *second[1]]) == list(range(count))
        for shown, label in zip(*first, strict=True):
            ((row, column, _),) = np.argwhere(shown)
            assert shown.max() == 1 + label
            places.add((row, column))
    # Moved by up to one pixel from (3, 2), or from (3, 5) where flipped.
    assert places == {(row, column) for row in (2, 3, 4) for column in (1, 2, 3, 4, 5, 6)}


METHODS = {
    "SGD": (Settings(0.3, math.inf, 0.0, 0.0), lambda rate, _: optax.sgd(rate)),
    "clip": (
        Settings(0.3, 0.2, 0.0, 0.5),
        lambda rate, longest: clipax.clip_sgd(rate, 0.2 / 0.3),
    ),
    "momentum clip": (
        Settings(0.3, 0.2, 1.0, 0.9, soft=True),
        lambda rate, longest: clipax.momentum_clip_sgd(rate, longest, decay=0.9, response="soft"),
    ),
    "mixed clip": (
        Settings(0.3, 0.2, 0.7, 0.99, 0.01, soft=True),
        lambda rate, longest: clipax.mixed_clip_sgd(
            rate, longest, decay=0.99, weight_decay=0.01, response="soft"
        ),
    ),
}


def test_one_program_has_the_four_methods() -> None:
    drop = optax.piecewise_constant_schedule(1.0, {15: 0.1})
    target = jnp.array([3.0, -1.0])

    def loss(params: jax.Array, carry: jax.Array, batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.sum(jnp.square(params - target) * batch), carry + 1

    batches = list(np.random.default_rng(0).uniform(0.1, 0.5, 30).astype(np.float32))
    step = make_step(loss, drop)
    for settings, make in METHODS.values():
        optimizer = make(lambda count: 0.3 * drop(count), lambda count: 0.2 * drop(count))

        def after(carry: Any, batch: jax.Array, of: Any = optimizer) -> tuple[Any, jax.Array]:
            params, state = carry
            value, grads = jax.value_and_grad(lambda x: loss(x, batch, batch)[0])(params)
            updates, state = of.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), value

        (params, _), losses = jax.lax.scan(
            after, (jnp.zeros(2), optimizer.init(jnp.zeros(2))), jnp.stack(batches)
        )
        point = begin(settings, jnp.zeros(2), jnp.zeros(()))
        point, found, norms = advance(step, settings, point, batches)
        assert point.carry == len(batches)
        np.testing.assert_allclose(found, losses, rtol=1e-4)
        np.testing.assert_allclose(point.params, params, rtol=1e-4)
        if settings.max_step < math.inf:
            length = np.linalg.norm(2 * batches[0] * target)
            assert norms[0, 1] == pytest.approx(length / (0.2 / 0.3), rel=1e-4)
            momentum = (1 - settings.decay) * norms[0, 1]
            assert norms[0, 0] == pytest.approx(momentum, rel=1e-4)
        else:
            assert norms.max() < 1e-6


def test_shares_are_of_the_norms_that_a_method_uses() -> None:
    norms = np.array([[0.5, 2.0], [0.5, 0.5], [2.0, 0.5], [0.5, 3.0]])
    clip, momentum, mixed = (Settings(1.0, 1.0, nu, 0.9) for nu in (0.0, 1.0, 0.7))
    assert shares(clip, norms) == "50% of steps (gradient)"
    assert shares(momentum, norms) == "25% of steps (momentum)"
    assert shares(mixed, norms) == "25% of steps (momentum) and 50% of steps (gradient)"


def test_the_order_is_judged_by_the_ratios_on_each_seed() -> None:
    first = np.array([1.0, 2.0, 4.0])  # seeds differ by far more than methods
    ends = {
        "first": first,
        "better": first * [0.89, 0.9, 0.91],
        "worse": first * [0.99, 1.0, 1.01],
        "alike": first * [1.02, 0.97, 1.0],
        "broken": first * [1.0, 1.0, math.nan],
    }
    found = order("loss", ends)
    assert [claim.name for claim in found] == [
        "loss: better over first",
        "loss: worse over better",
        "loss: alike over worse",
        "loss: broken over alike",
        "loss: broken over first",
    ]
    verdicts = [claim.verdict for claim in found]
    assert verdicts == ["holds", "MISSED", "open", "MISSED", "MISSED"]
    assert found[0].measured == pytest.approx(0.9, rel=1e-3)
    assert {claim.source for claim in found} == {"paper"}
