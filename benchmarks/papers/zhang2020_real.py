"""Smoothness along the path of training against the norm of the gradient, on real data.

J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why Gradient Clipping Accelerates Training: A Theoretical
Justification for Adaptivity", arXiv 1905.11881. The models are an LSTM for characters, with an
embedding tied to its output, and a ResNet-8 on images of 16 x 16 pixels, both far smaller than the
paper's (AWD-LSTM, ResNet-20).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from scipy.stats import spearmanr

import clipax
from benchmarks.papers import lstm, resnet
from benchmarks.papers.claims import at_most, within
from benchmarks.papers.datasets import Images, cifar10, shrink, text
from benchmarks.papers.intervals import of_mean
from benchmarks.papers.paper import Options, Outcome, Panel
from benchmarks.papers.threads import map_threads
from clipax.diagnostics import SmoothnessRecorder

__all__ = ["smoothness_real"]

_POINTS = 5  # of a step, besides its beginning
_PIXELS = 16  # larger images are made smaller
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
        f"LSTM on {name}": map_threads(
            lambda seed: _lstm(options.quick, np.random.default_rng(seed), content), seeds
        ),
        f"ResNet on {images.name}": map_threads(
            lambda seed: _resnet(options.quick, np.random.default_rng(seed), images), seeds
        ),
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
    params = lstm.init(rng, len(letters), width)

    def loss(params: Params, batch: jax.Array) -> jax.Array:
        return lstm.loss(params, lstm.start(batch.shape[1], width), batch)[0]

    def batches() -> Iterator[jax.Array]:
        for _ in range(steps):
            starts = rng.integers(len(codes) - length, size=batch)
            yield jnp.asarray(codes[np.arange(length + 1)[:, None] + starts])

    return _train(loss, params, batches(), clipax.clip_sgd(4.0, 0.25), every)


def _resnet(quick: bool, rng: np.random.Generator, data: Images) -> Run:
    widths, batch, steps, every = ((4,), 16, 60, 3) if quick else ((8, 16, 32), 64, 400, 4)
    x, y = shrink(data.train.x, _PIXELS), data.train.y
    params = resnet.init(rng, x.shape[-1], widths, blocks=1)

    def loss(params: Params, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        logits = resnet.apply(params, batch[0], len(widths), blocks=1)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

    def batches() -> Iterator[tuple[jax.Array, jax.Array]]:
        for _ in range(steps):
            rows = rng.integers(len(y), size=batch)
            yield jnp.asarray(x[rows]), jnp.asarray(y[rows])

    return _train(loss, params, batches(), clipax.clip_sgd(0.1, 1.0), every)


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
            (0.0, 1.0),
            correlations.mean(),
            source="paper",
            interval=tuple(np.clip(of_mean(correlations), -1, 1).tolist()),
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
