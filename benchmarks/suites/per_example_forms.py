"""One step of SGD that clips each example, with optax, jax_privacy and clipax, on two models."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax
from benchmarks.harness import hlo
from benchmarks.harness.clock import Runner

PLAIN, OPTAX, JAX_PRIVACY = "plain gradient", "optax", "jax_privacy"
CLIPAX, AGAIN, EIGHT = "clipax", "clipax, again", "clipax, 8 at a time"
THRESHOLD, RATE = 1.0, 1e-4


class Problem(NamedTuple):
    """A loss, from parameters and one example to a scalar; parameters, and a batch of examples."""

    loss: Callable[..., Any]
    params: Any
    batch: tuple[Any, ...]
    size: int


def make_mlp(size: int, widths: tuple[int, ...] = (784, 512, 512, 10)) -> Problem:
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


def make_transformer(size: int) -> Problem:
    """Makes two layers of causal attention and dense layers that predict the next word."""
    length, width, heads, words = 64, 128, 4, 256
    draw = np.random.default_rng(0)

    def layer() -> Any:
        shapes = {"qkv": (width, 3 * width), "out": (width, width)}
        shapes |= {"up": (width, 4 * width), "down": (4 * width, width)}
        dense = {name: _normal(draw, *one) / math.sqrt(one[0]) for name, one in shapes.items()}
        return dense | {"scale": jnp.ones(width), "mlp_scale": jnp.ones(width)}

    params = {
        "tokens": _normal(draw, words, width) * 0.02,
        "positions": _normal(draw, length, width) * 0.02,
        "layers": [layer(), layer()],
        "scale": jnp.ones(width),
    }

    def norm(hidden: Any, scale: Any) -> Any:
        return scale * hidden / jnp.sqrt(jnp.mean(hidden**2, axis=-1, keepdims=True) + 1e-6)

    def attend(hidden: Any, layer: Any) -> Any:
        parts = (hidden @ layer["qkv"]).reshape(length, 3, heads, width // heads)
        query, key, value = parts[:, 0], parts[:, 1], parts[:, 2]
        scores = jnp.einsum("thd,shd->hts", query, key) / math.sqrt(width // heads)
        causal = jnp.tril(jnp.ones((length, length), bool))
        weights = jax.nn.softmax(jnp.where(causal, scores, -1e9))
        return jnp.einsum("hts,shd->thd", weights, value).reshape(length, width) @ layer["out"]

    def loss(params: Any, words: Any) -> Any:
        hidden = params["tokens"][words[:-1]] + params["positions"]
        for layer in params["layers"]:
            hidden += attend(norm(hidden, layer["scale"]), layer)
            hidden += jax.nn.gelu(norm(hidden, layer["mlp_scale"]) @ layer["up"]) @ layer["down"]
        logits = norm(hidden, params["scale"]) @ params["tokens"].T
        following = jnp.take_along_axis(jax.nn.log_softmax(logits), words[1:, None], axis=-1)
        return -jnp.mean(following)

    text = jnp.asarray(draw.integers(words, size=(size, length + 1)))
    return Problem(loss, params, (text,), size)


MODELS = {"mlp": make_mlp, "transformer": make_transformer}


def _normal(draw: np.random.Generator, *shape: int) -> Any:
    return jnp.asarray(draw.normal(size=shape), jnp.float32)


def make(name: str, problem: Problem) -> tuple[Runner, int]:
    """Makes a form's step, and counts the bytes of its program's temporaries."""
    gradient = FORMS[name](problem)

    def step(params: Any, state: Any, batch: Any) -> tuple[Any, Any]:
        grads = gradient(params, *batch)
        return jax.tree.map(lambda p, g: p - RATE * g, params, grads), state

    own = jax.tree.map(jnp.copy, problem.params)
    compiled = jax.jit(step, donate_argnums=0).lower(own, (), problem.batch).compile()
    return Runner(compiled, own, (), problem.batch), hlo.count(compiled).temporaries


def _plain(problem: Problem) -> Callable[..., Any]:
    def mean(params: Any, *batch: Any) -> Any:
        return jnp.mean(jax.vmap(lambda *example: problem.loss(params, *example))(*batch))

    return jax.grad(mean)


def _optax(problem: Problem) -> Callable[..., Any]:
    def gradient(params: Any, *batch: Any) -> Any:
        axes = (None, *(0 for _ in batch))
        grads = jax.vmap(jax.grad(problem.loss), in_axes=axes)(params, *batch)
        leaves, structure = jax.tree.flatten(grads)
        total, _ = optax.per_example_global_norm_clip(leaves, THRESHOLD)
        return jax.tree.unflatten(structure, [one / problem.size for one in total])

    return gradient


def _jax_privacy(problem: Problem) -> Callable[..., Any]:
    """One at a time: all at once, its default, takes 20 times optax's time on a CPU."""
    clipping: Any = importlib.import_module("jax_privacy.clipping")
    return clipping.clipped_grad(
        problem.loss,
        l2_clip_norm=THRESHOLD,
        normalize_by=problem.size,
        batch_argnums=tuple(range(1, 1 + len(problem.batch))),
        keep_batch_dim=False,
        microbatch_size=1,
    )


def _clipax(problem: Problem, microbatch_size: int | None = None) -> Callable[..., Any]:
    grad = clipax.clipped_grad(problem.loss, THRESHOLD, microbatch_size=microbatch_size)
    return lambda params, *batch: grad(params, *batch)[0]


FORMS: dict[str, Callable[[Problem], Callable[..., Any]]] = {
    PLAIN: _plain,
    OPTAX: _optax,
    JAX_PRIVACY: _jax_privacy,
    CLIPAX: _clipax,
    AGAIN: _clipax,
    EIGHT: lambda problem: _clipax(problem, 8),
}
"""From a problem to a gradient, a function of parameters and batch."""
if importlib.util.find_spec(JAX_PRIVACY) is None:
    del FORMS[JAX_PRIVACY]
