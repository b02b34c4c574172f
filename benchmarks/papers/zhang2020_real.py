"""Smoothness along the path of training against the norm of the gradient, on real data.

J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why Gradient Clipping Accelerates Training: A Theoretical
Justification for Adaptivity", arXiv 1905.11881. The models are an LSTM for characters and a ResNet,
both far smaller than the paper's (AWD-LSTM, ResNet-20).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from scipy.stats import spearmanr

import clipax
from benchmarks.papers.claims import at_most, within
from benchmarks.papers.datasets import Images, cifar10, text
from benchmarks.papers.intervals import of_mean
from benchmarks.papers.paper import Options, Outcome, Panel
from clipax.diagnostics import SmoothnessRecorder

__all__ = ["smoothness_real"]

_POINTS = 5  # of a step, besides its beginning
Params = dict[str, jax.Array]
Loss = Callable[[Params, Any], jax.Array]
Run = tuple[SmoothnessRecorder, np.ndarray]  # and the loss of each step


def smoothness_real(options: Options) -> Outcome:
    """Rank correlation of local smoothness and gradient norm for an LSTM and a ResNet.

    The smoothness of a step from `x` to `x + d` is the largest of
    `||grad f(x + s d) - grad f(x)|| / (s ||d||)` over `s = 1/5, ..., 1`, all on the step's batch.
    Both models are trained by clipped SGD, from five seeds.
    """
    seeds = range(options.seed, options.seed + (2 if options.quick else 5))
    name, content = text(options.data_dir)
    images = cifar10(options.data_dir)
    found = {
        f"LSTM on {name}": [
            _lstm(options.quick, np.random.default_rng(seed), content) for seed in seeds
        ],
        f"ResNet on {images.name}": [
            _resnet(options.quick, np.random.default_rng(seed), images) for seed in seeds
        ],
    }
    parts = [_outcome(model, runs) for model, runs in found.items()]
    return Outcome(
        [claim for part in parts for claim in part.claims],
        [panel for part in parts for panel in part.panels],
        [note for part in parts for note in part.notes],
    )


def _lstm(quick: bool, rng: np.random.Generator, content: str) -> Run:
    width, length, batch, steps, every = (8, 8, 4, 60, 3) if quick else (64, 32, 16, 800, 4)
    letters, codes = np.unique(np.array(list(content)), return_inverse=True)
    params = {
        "embed": _normal(rng, (len(letters), width), 1.0),
        "gates": _normal(rng, (2 * width, 4 * width), (2 * width) ** -0.5),
        "bias": jnp.zeros(4 * width).at[width : 2 * width].set(1.0),  # forget little at first
        "out": _normal(rng, (width, len(letters)), width**-0.5),
        "out_bias": jnp.zeros(len(letters)),
    }

    def loss(params: Params, batch: jax.Array) -> jax.Array:
        inputs = params["embed"][batch[:, :-1]].swapaxes(0, 1)

        def cell(carry: tuple[jax.Array, jax.Array], x: jax.Array) -> tuple[Any, jax.Array]:
            h, c = carry
            gates = jnp.concatenate([x, h], axis=1) @ params["gates"] + params["bias"]
            i, f, o, u = jnp.split(gates, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(u)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((batch.shape[0], width))
        _, hidden = jax.lax.scan(cell, (zero, zero), inputs)
        logits = hidden @ params["out"] + params["out_bias"]
        targets = batch[:, 1:].swapaxes(0, 1)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    def batches() -> Iterator[jax.Array]:
        for _ in range(steps):
            starts = rng.integers(len(codes) - length, size=(batch, 1))
            yield jnp.asarray(codes[starts + np.arange(length + 1)])

    return _train(loss, params, batches(), clipax.clip_sgd(4.0, 0.25), every)


def _resnet(quick: bool, rng: np.random.Generator, data: Images) -> Run:
    widths, batch, steps, every = ((4,), 16, 60, 3) if quick else ((8, 16, 32), 64, 400, 4)
    x, y = data.train.x, data.train.y
    params: Params = {"stem": _normal(rng, (3, 3, x.shape[-1], widths[0]), 0.3)}
    before = widths[0]
    for place, width in enumerate(widths):
        for part, inside in (("a", before), ("b", width)):
            params[f"{place}{part}"] = _normal(rng, (3, 3, inside, width), (2 / 9 / inside) ** 0.5)
            params[f"{place}{part}_scale"] = jnp.ones(width)
            params[f"{place}{part}_shift"] = jnp.zeros(width)
        params[f"{place}skip"] = _normal(rng, (1, 1, before, width), before**-0.5)
        before = width
    params |= {"out": _normal(rng, (before, 10), before**-0.5), "out_bias": jnp.zeros(10)}

    def conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=numbers
        )

    def loss(params: Params, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        def normed(x: jax.Array, name: str) -> jax.Array:  # batch normalisation, as in training
            x = (x - x.mean((0, 1, 2))) / jnp.sqrt(x.var((0, 1, 2)) + 1e-5)
            return x * params[f"{name}_scale"] + params[f"{name}_shift"]

        x = conv(batch[0], params["stem"], 1)
        for place in range(len(widths)):
            inner = jax.nn.relu(normed(conv(x, params[f"{place}a"], 2), f"{place}a"))
            inner = normed(conv(inner, params[f"{place}b"], 1), f"{place}b")
            x = jax.nn.relu(conv(x, params[f"{place}skip"], 2) + inner)
        logits = x.mean((1, 2)) @ params["out"] + params["out_bias"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

    def batches() -> Iterator[tuple[jax.Array, jax.Array]]:
        for _ in range(steps):
            rows = rng.integers(len(y), size=batch)
            yield jnp.asarray(x[rows]), jnp.asarray(y[rows])

    return _train(loss, params, batches(), clipax.clip_sgd(0.1, 1.0), every)


def _normal(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> jax.Array:
    return jnp.asarray(deviation * rng.normal(size=shape), jnp.float32)


def _train(
    loss: Loss,
    params: Params,
    batches: Iterator[Any],
    optimizer: optax.GradientTransformation,
    every: int,
) -> Run:
    """The smoothness of each `every`-th step, and the loss of each."""
    recorder = SmoothnessRecorder(jax.grad(loss), points=_POINTS, every=every)

    @jax.jit
    def step(params: Params, state: Any, batch: Any) -> tuple[Params, Any, jax.Array]:
        value, grads = jax.value_and_grad(loss)(params, batch)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    state, losses = optimizer.init(params), []
    for batch in batches:
        after, state, value = step(params, state, batch)
        recorder(params, after, batch)
        losses.append(value)
        params = after
    return recorder, np.array(losses)


def _outcome(name: str, runs: list[Run]) -> Outcome:
    """What the runs of all seeds say; the picture is of the first."""
    correlations = np.array([_correlate(recorder) for recorder, _ in runs])
    falls = np.array([losses[-len(losses) // 10 :].mean() / losses[0] for _, losses in runs])
    seeds = f"mean of {len(runs)} seeds"
    claims = [
        # The paper's sentence: the two are positively correlated along the path of training.
        within(
            f"{name}: rank correlation of smoothness and gradient norm, {seeds}",
            (0.0, math.inf),
            correlations.mean(),
            source="paper",
            interval=of_mean(correlations),
        ),
        at_most(
            f"{name}: last loss over the first, {seeds}",
            1.0,
            falls.mean(),
            source="ours",
            interval=of_mean(falls),
        ),
    ]
    recorder, _ = runs[0]
    steps, norms, smoothness = recorder.arrays().values()
    fit = recorder.fit()

    def draw(axes: Axes) -> None:
        points = axes.scatter(norms, smoothness, c=steps, s=12, cmap="viridis")
        line = np.geomspace(norms.min(), norms.max())
        axes.plot(line, fit.predict(line), "r-", label=f"{fit.l0:.3g} + {fit.l1:.3g} |g|")
        axes.set(xscale="log", yscale="log")
        axes.legend()
        if axes.figure is not None:
            axes.figure.colorbar(points, ax=axes, label="step")

    note = (
        f"{name}, {len(runs)} seeds: rank correlations "
        + ", ".join(f"{one:.2f}" for one in correlations)
        + f"; of the first seed (drawn) L0 {fit.l0:.3g} ({fit.l0_interval[0]:.3g} to "
        f"{fit.l0_interval[1]:.3g}), L1 {fit.l1:.3g} ({fit.l1_interval[0]:.3g} to "
        f"{fit.l1_interval[1]:.3g}), gradient norms {norms.min():.3g} to {norms.max():.3g}, "
        f"smoothness {smoothness.min():.3g} to {smoothness.max():.3g}."
    )
    title = f"{name}: rank correlation {correlations[0]:.2f}"
    return Outcome(claims, [Panel(title, "gradient norm", "smoothness", draw)], [note])


def _correlate(recorder: SmoothnessRecorder) -> float:
    _, norms, smoothness = recorder.arrays().values()
    return float(spearmanr(norms, smoothness).statistic)
