"""The models on which per-example clipping is measured: functions of parameters and one example."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Problem(NamedTuple):
    """A loss, from parameters and one example to a scalar; parameters, and a batch of examples."""

    loss: Callable[..., Any]
    params: Any
    batch: tuple[Any, ...]
    size: int


def mlp(size: int = 256, *, widths: tuple[int, ...] = (784, 512, 512, 10)) -> Problem:
    """Makes dense layers with ReLU, and a cross-entropy."""
    draw = np.random.default_rng(0)
    params = [
        {"kernel": _normal(draw, wide, out) / math.sqrt(wide / 2), "bias": jnp.zeros(out)}
        for wide, out in itertools.pairwise(widths)
    ]

    def loss(params: Any, image: Any, label: Any) -> Any:
        hidden = image
        for layer in params[:-1]:
            hidden = jax.nn.relu(hidden @ layer["kernel"] + layer["bias"])
        logits = hidden @ params[-1]["kernel"] + params[-1]["bias"]
        return -jax.nn.log_softmax(logits)[label]

    labels = jnp.asarray(draw.integers(widths[-1], size=size))
    return Problem(loss, params, (_normal(draw, size, widths[0]), labels), size)


def transformer(
    size: int = 64, *, length: int = 64, width: int = 128, heads: int = 4, words: int = 256
) -> Problem:
    """Makes two layers of causal attention and dense layers that predict the next word."""
    draw = np.random.default_rng(0)

    def dense(wide: int, out: int) -> Any:
        return _normal(draw, wide, out) / math.sqrt(wide)

    def layer() -> Any:
        return {
            "scale": jnp.ones(width),
            "qkv": dense(width, 3 * width),
            "out": dense(width, width),
            "mlp_scale": jnp.ones(width),
            "up": dense(width, 4 * width),
            "down": dense(4 * width, width),
        }

    params = {
        "tokens": _normal(draw, words, width) * 0.02,
        "positions": _normal(draw, length, width) * 0.02,
        "layers": [layer(), layer()],
        "scale": jnp.ones(width),
    }

    def normed(hidden: Any, scale: Any) -> Any:
        return scale * hidden / jnp.sqrt(jnp.mean(hidden**2, axis=-1, keepdims=True) + 1e-6)

    def attention(hidden: Any, layer: Any) -> Any:
        parts = (hidden @ layer["qkv"]).reshape(length, 3, heads, width // heads)
        query, key, value = parts[:, 0], parts[:, 1], parts[:, 2]
        scores = jnp.einsum("thd,shd->hts", query, key) / math.sqrt(width // heads)
        causal = jnp.tril(jnp.ones((length, length), bool))
        weights = jax.nn.softmax(jnp.where(causal, scores, -1e9))
        mixed = jnp.einsum("hts,shd->thd", weights, value).reshape(length, width)
        return mixed @ layer["out"]

    def loss(params: Any, words: Any) -> Any:
        hidden = params["tokens"][words[:-1]] + params["positions"]
        for layer in params["layers"]:
            hidden += attention(normed(hidden, layer["scale"]), layer)
            inner = jax.nn.gelu(normed(hidden, layer["mlp_scale"]) @ layer["up"])
            hidden += inner @ layer["down"]
        logits = normed(hidden, params["scale"]) @ params["tokens"].T
        following = jnp.take_along_axis(jax.nn.log_softmax(logits), words[1:, None], axis=-1)
        return -jnp.mean(following)

    text = jnp.asarray(draw.integers(words, size=(size, length + 1)))
    return Problem(loss, params, (text,), size)


MODELS: dict[str, Callable[..., Problem]] = {"mlp": mlp, "transformer": transformer}


def _normal(draw: np.random.Generator, *shape: int) -> Any:
    return jnp.asarray(draw.normal(size=shape), jnp.float32)
