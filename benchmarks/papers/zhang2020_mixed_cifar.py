"""Mixed clipping on CIFAR-10: the four methods train a residual network of twenty layers.

B. Zhang, J. Jin, C. Fang, L. Wang, arXiv 2010.02519, with ResNet-20 on a part of the images, at
half their size, in place of ResNet-32 on all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

from benchmarks.papers import resnet
from benchmarks.papers.claims import at_most
from benchmarks.papers.datasets import cifar10, shrink
from benchmarks.papers.draw import bands
from benchmarks.papers.kept import remembered
from benchmarks.papers.paper import Options, Outcome, Panel
from benchmarks.papers.threads import map_runs
from benchmarks.papers.zhang2020_mixed_methods import (
    Settings,
    Step,
    advance,
    begin,
    make_step,
    order,
    shares,
)

__all__ = ["cifar"]

# The authors' settings: rate, longest step, share and decay of the momentum, weight decay, soft.
_METHODS = {
    "SGD with momentum": Settings(1.0, math.inf, 1.0, 0.9, 5e-4, False),
    "clip": Settings(1.0, 1.0, 0.0, 0.9, 5e-4, False),
    "momentum clip": Settings(1.5, 0.25, 1.0, 0.9, 5e-4, True),
    "mixed clip": Settings(1.0, 1.0, 0.7, 0.999, 5e-4, True),
}
_DROPS = 80 / 150, 120 / 150  # of the epochs, where rate and longest step are divided by ten


class _Sizes(NamedTuple):
    """Of the data, the network and the runs."""

    images: int
    side: int  # of an image, in pixels
    widths: tuple[int, ...]
    blocks: int
    batch: int
    epochs: int
    seeds: int


_FULL = _Sizes(5000, 16, (8, 16, 32), 3, 32, 20, 3)
_BUILT_IN = _Sizes(640, 8, (4, 8), 1, 32, 5, 2)  # of the digits
_PAPER = {"SGD with momentum": 0.40, "clip": 0.36, "momentum clip": 0.30, "mixed clip": 0.20}

Batch = tuple[np.ndarray, np.ndarray]


def cifar(options: Options) -> Outcome:
    """Training losses of the four methods, with the authors' settings."""
    built_in = options.quick or options.data_dir is None
    data = cifar10(None if built_in else options.data_dir)
    sizes = _BUILT_IN if built_in else _FULL
    x, y = _prepare(data.train.x[: sizes.images], sizes.side), data.train.y[: sizes.images]
    drops = [round(sizes.epochs * share) for share in _DROPS]
    per_epoch = len(y) // sizes.batch
    scale = optax.piecewise_constant_schedule(1.0, {drop * per_epoch: 0.1 for drop in drops})

    def loss(params: resnet.Params, carry: tuple[()], batch: Batch) -> tuple[jax.Array, tuple[()]]:
        logits = resnet.apply(params, jnp.asarray(batch[0]), len(sizes.widths), sizes.blocks)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean(), carry

    step = make_step(loss, scale)
    console = Console(stderr=True, quiet=built_in)

    def run(name: str, seed: int) -> dict[str, np.ndarray]:
        train = partial(_train, step, _METHODS[name], seed, x, y, sizes)
        words = (data.name, *sizes, *_METHODS[name], "seed", seed)
        made = remembered(None if built_in else options.runs, " ".join(map(str, words)), train)
        before_drop = made["losses"][: drops[0] * per_epoch]
        console.print(f"{data.name}, seed {seed}, {name}: {before_drop[-per_epoch:].mean():.3f}")
        return made

    found = map_runs(run, _METHODS, range(options.seed, options.seed + sizes.seeds))
    # By method, seed and epoch.
    losses = {
        name: np.array([run["losses"] for run in runs]).reshape(sizes.seeds, -1, per_epoch).mean(2)
        for name, runs in found.items()
    }
    title = f"{data.name}, {_depth(sizes)} layers: mean, range, {sizes.seeds} seeds"
    curves = {
        name: (
            np.arange(1, sizes.epochs + 1),
            np.array([rows.min(0), rows.mean(0), rows.max(0)]),
        )
        for name, rows in losses.items()
    }
    panel = Panel(title, "epoch", "training loss", bands(curves, scales=("linear", "linear")))
    if built_in:  # what it shows of the order on CIFAR-10 is nothing
        claims = [
            at_most(
                f"{data.name}, {name}: training loss, last epoch over first",
                0.9,
                float(np.mean(rows[:, -1] / rows[:, 0])),
                source="ours",
            )
            for name, rows in losses.items()
        ]
        return Outcome(claims, [panel], [f"Without CIFAR-10 the methods train on {data.name}."])
    before = {name: rows[:, drops[0] - 1] for name, rows in losses.items()}
    claims = order("CIFAR-10, training loss before the first drop of the rate", before)
    return Outcome(claims, [panel], _notes(sizes, drops, before, losses, found))


def _notes(
    sizes: _Sizes,
    drops: list[int],
    before: dict[str, np.ndarray],
    losses: dict[str, np.ndarray],
    found: dict[str, list[dict[str, np.ndarray]]],
) -> list[str]:
    per_epoch = sizes.images // sizes.batch
    clipped = {
        name: shares(
            _METHODS[name],
            np.concatenate([run["norms"][: drops[0] * per_epoch] for run in runs]),
        )
        for name, runs in found.items()
        if _METHODS[name].max_step < math.inf
    }
    return [
        f"CIFAR-10 in the paper: ResNet-32, 50,000 images, batches of 128, 150 epochs with drops "
        f"after 80 and 120. Here: ResNet-{_depth(sizes)} of widths "
        f"{', '.join(map(str, sizes.widths))} (theirs 16, 32, 64), {sizes.images:,} images "
        f"averaged to {sizes.side} x {sizes.side} pixels, batches of "
        f"{sizes.batch}, {sizes.epochs} epochs ({sizes.epochs * per_epoch:,} steps) with drops "
        f"after {drops[0]} and {drops[1]}. Rates, longest steps, momenta, weight decay, responses "
        f"(the clip hard, the other two soft) and augmentation are those of the authors' code; "
        "nothing was searched.",
        f"CIFAR-10, training loss in the last epoch before the first drop, mean of {sizes.seeds} "
        f"seeds (the paper's near epoch 79, read off): "
        + "; ".join(f"{n} {rows.mean():.3f} ({_PAPER[n]:.2f})" for n, rows in before.items())
        + ". In the last epoch of all: "
        + "; ".join(f"{name} {rows[:, -1].mean():.3f}" for name, rows in losses.items())
        + ".",
        "CIFAR-10, norms above the threshold until the first drop: "
        + "; ".join(f"{name} {text}" for name, text in clipped.items())
        + ".",
    ]


def _depth(sizes: _Sizes) -> int:
    return 2 * sizes.blocks * len(sizes.widths) + 2


def _prepare(x: np.ndarray, side: int) -> np.ndarray:
    """Averages squares of pixels, and gives each channel mean 0 and variance 1."""
    x = shrink(x, side)
    return np.asarray((x - x.mean((0, 1, 2))) / x.std((0, 1, 2)), np.float32)


def _train(
    step: Step, settings: Settings, seed: int, x: np.ndarray, y: np.ndarray, sizes: _Sizes
) -> dict[str, np.ndarray]:
    """Trains once; start and batches depend on the seed alone."""
    rng = np.random.default_rng(seed)
    params = resnet.init(rng, x.shape[-1], sizes.widths, sizes.blocks)
    batches = _batches(rng, x, y, sizes)
    _, losses, norms = advance(step, settings, begin(settings, params), batches)
    return {"losses": losses, "norms": norms}


def _batches(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, sizes: _Sizes
) -> Iterator[Batch]:
    """Epochs of images in a random order, each flipped at random and moved by up to an eighth."""
    side = x.shape[1]
    edge = side // 8
    padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    pixels = np.arange(side)
    for _ in range(sizes.epochs):
        shuffled = rng.permutation(len(y))
        for start in range(0, len(y) - sizes.batch + 1, sizes.batch):
            chosen = shuffled[start : start + sizes.batch, None]
            down, right = rng.integers(2 * edge + 1, size=(2, sizes.batch, 1))
            columns = np.where(rng.random((sizes.batch, 1)) < 0.5, pixels, pixels[::-1]) + right
            rows = pixels + down
            moved = padded[chosen[..., None], rows[:, :, None], columns[:, None, :]]
            yield moved, y[chosen[:, 0]]
