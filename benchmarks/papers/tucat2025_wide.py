"""Regularized clipping on wide networks, for which its theorem is.

M. Tucat, A. Mukherjee et al., "Regularized Gradient Clipping Provably Trains Wide and Deep Neural
Networks", arXiv 2404.08624. Near its start a wide network satisfies `|grad L|^2/2 >= mu L` under
the squared loss, and then every step with a rate of `1/beta` contracts the loss by `1 - eta delta
mu`. The images are Fashion-MNIST; the default here is digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.linalg import eigvalsh

import clipax
from benchmarks.papers.claims import Claim, at_most, close, within
from benchmarks.papers.datasets import fashion_mnist, shrink
from benchmarks.papers.draw import lines
from benchmarks.papers.intervals import bootstrap
from benchmarks.papers.paper import Options, Outcome, Panel

__all__ = ["wide"]

_WIDTHS = (16, 64, 256, 1024, 4096)
_DELTAS = (0.0, 0.1, 1.0)
# So small that the floor of .1 acts until the loss has fallen by two orders of magnitude.
_THRESHOLD = 0.02
_EXAMPLES = 32

Params = dict[str, jax.Array]


@dataclass(frozen=True)
class _Runs:
    """Of one width, of shape (deltas, seeds) or with the steps behind; see `_measure`."""

    losses: np.ndarray
    violations: np.ndarray
    ratios: np.ndarray
    moved: np.ndarray
    kernels: np.ndarray


def wide(options: Options) -> Outcome:
    """Steps that contract less than the theorem says, and how far a network is from its limit.

    One hidden layer of tanh, scaled so that its tangent kernel has a limit, fits +-1 on 32 images
    by full-batch steps. As the theorem's constants stand the kernel's largest and smallest
    eigenvalue at the start, which are those of the path only in the limit of infinite width.
    """
    few = options.quick
    widths, seeds, steps = (_WIDTHS[:3], 2, 300) if few else (_WIDTHS, 5, 600)
    with jax.enable_x64(True):
        name, examples = _examples(options, seeds)
        runs = {width: _measure(width, examples, steps, options.seed) for width in widths}
    claims: list[Claim] = []
    for place, delta in enumerate(_DELTAS):
        for width in widths[1:]:
            share = runs[width].violations[place]
            claims.append(
                at_most(
                    f"{name}, width {width:,}, delta {delta:g}: share of steps that contract less",
                    0.0,
                    share.mean(),
                    interval=_interval(share),
                )
            )
    moved = np.stack([runs[width].moved[-1] for width in widths])
    slope = partial(_slope, np.log(widths))
    claims.append(
        close(
            f"{name}, delta 1: exponent of the width in the distance from the start over its norm",
            -0.5,
            slope(*np.log(moved)),
            0,
            0.1,
            interval=bootstrap(slope, *np.log(moved)),
        )
    )
    last = runs[widths[-1]]
    smallest = last.kernels[-1, :, 0]
    claims.append(
        within(
            f"{name}, width {widths[-1]:,}, delta 1: the kernel's smallest eigenvalue after "
            "training, over that of the start",
            (0.5, 2.0),
            smallest.mean(),
            source="ours",
            interval=_interval(smallest),
        )
    )
    gain = last.losses[1, :, -1] / last.losses[0, :, -1]
    claims.append(
        at_most(
            f"{name}, width {widths[-1]:,}: last loss with delta .1 over that of the clip",
            1.0,
            np.median(gain),
            source="ours",
            interval=bootstrap(lambda values: np.median(values, axis=-1), gain),
        )
    )
    return Outcome(claims, _panels(name, runs), [_note(name, runs)])


def _interval(values: np.ndarray) -> tuple[float, float]:
    return bootstrap(lambda drawn: drawn.mean(axis=-1), values)


def _slope(x: np.ndarray, *rows: np.ndarray) -> np.ndarray:
    """Of the means over seeds, by least squares."""
    y = np.stack([row.mean(axis=-1) for row in rows])
    centred = x - x.mean()
    return np.tensordot(centred, y, axes=1) / np.sum(centred**2)


def _examples(options: Options, seeds: int) -> tuple[str, tuple[jax.Array, jax.Array]]:
    """For each seed some images, coarse, centred and of norm 1, and their labels +-1."""
    data = fashion_mnist(options.data_dir)
    images = np.asarray(data.train.x, np.float64)
    images = shrink(images, 7)  # digits keep their 8
    rows = images.reshape(len(images), -1)
    rows = rows - rows.mean(axis=0)
    rng = np.random.default_rng(options.seed)
    picks = np.stack([rng.choice(len(rows), _EXAMPLES, replace=False) for _ in range(seeds)])
    chosen = rows[picks] / np.linalg.norm(rows[picks], axis=-1, keepdims=True)
    labels = np.where(data.train.y[picks] < 5, 1.0, -1.0)
    return data.name, (jnp.asarray(chosen), jnp.asarray(labels))


def _output(params: Params, x: jax.Array) -> jax.Array:
    width = params["out"].shape[0]
    return jnp.tanh(x @ params["in"]) @ params["out"] / jnp.sqrt(width)


def _loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.sum((_output(params, x) - y) ** 2) / 2


def _kernel(params: Params, x: jax.Array) -> jax.Array:
    """Of the tangents: products of the outputs' gradients."""
    hidden = jnp.tanh(x @ params["in"])
    slopes = (1 - hidden**2) * params["out"]
    return (hidden @ hidden.T + (slopes @ slopes.T) * (x @ x.T)) / hidden.shape[1]


def _measure(width: int, examples: tuple[jax.Array, jax.Array], steps: int, seed: int) -> _Runs:
    """Losses, shares of violations, smallest PL ratios, distances, and extreme eigenvalues."""
    x, y = examples
    rng = np.random.default_rng((seed, width))
    starts = {
        "in": jnp.asarray(rng.normal(size=(len(x), x.shape[-1], width))),
        "out": jnp.asarray(rng.normal(size=(len(x), width))),
    }
    before = eigvalsh(np.asarray(jax.vmap(_kernel)(starts, x)))[:, [0, -1]]
    deltas = jnp.asarray(_DELTAS)
    over_seeds = jax.vmap(partial(_descend, steps), in_axes=(0, 0, 0, 0, None))
    over_deltas = jax.jit(jax.vmap(over_seeds, in_axes=(None, None, None, None, 0)))
    ends, losses, norms = over_deltas(starts, x, y, jnp.asarray(before[:, 1]), deltas)
    after = eigvalsh(np.asarray(jax.vmap(jax.vmap(_kernel), in_axes=(0, None))(ends, x)))
    losses, norms = np.asarray(losses), np.asarray(norms)
    contraction = 1 - np.asarray(_DELTAS)[:, None, None] * (before[:, :1] / before[:, 1:])
    change = jax.tree.map(lambda end, start: end - start, ends, starts)
    return _Runs(
        losses,
        (losses[..., 1:] > contraction * losses[..., :-1]).mean(axis=-1),
        (norms**2 / (2 * losses[..., :-1])).min(axis=-1) / before[:, 0],
        np.asarray(_norms(change, 2) / _norms(starts, 1)),
        after[..., [0, -1]] / before,
    )


def _norms(params: Params, axes: int) -> jax.Array:
    squares = [jnp.sum(leaf**2, axis=tuple(range(axes, leaf.ndim))) for leaf in params.values()]
    return jnp.sqrt(sum(squares[1:], squares[0]))


def _descend(
    steps: int, start: Params, x: jax.Array, y: jax.Array, beta: jax.Array, delta: jax.Array
) -> tuple[Params, jax.Array, jax.Array]:
    """The end, the losses before every step and after the last, and the gradients' norms."""
    optimizer = clipax.regularized_clip_sgd(1 / beta, _THRESHOLD, delta)

    def step(carry, _):  # type: ignore[no-untyped-def]
        params, state = carry
        loss, grads = jax.value_and_grad(_loss)(params, x, y)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), (loss, _norms(grads, 0))

    first = (start, optimizer.init(start))
    (end, _), (losses, norms) = jax.lax.scan(step, first, length=steps)
    return end, jnp.append(losses, _loss(end, x, y)), norms


def _note(name: str, runs: dict[int, _Runs]) -> str:
    words = [
        f"{width:,}: steps that contract less {100 * run.violations[-1].mean():.2g} %, moved "
        f"{run.moved[-1].mean():.2g} of the start's norm, eigenvalues times "
        f"{run.kernels[-1, :, 0].mean():.3g} and {run.kernels[-1, :, 1].mean():.3g}, smallest "
        f"|grad|^2/(2 mu L) {run.ratios[-1].mean():.3g}"
        for width, run in runs.items()
    ]
    return (
        f"Wide network on {name}, delta 1, by width: {'; '.join(words)}. The theorem's constants "
        "are those of the path; ours are those of the start, and a narrow network leaves them."
    )


def _panels(name: str, runs: dict[int, _Runs]) -> list[Panel]:
    widths, widest = [*runs], runs[max(runs)]
    steps = np.arange(1, widest.losses.shape[-1])
    shown = np.unique(np.geomspace(1, len(steps), 200).astype(int)) - 1
    return [
        Panel(
            f"Width {max(runs):,}, {len(widest.moved[0])} starts: median loss",
            "iteration",
            "loss",
            lines(
                {
                    f"delta {delta:g}": (
                        steps[shown],
                        np.median(widest.losses[place, :, 1:], axis=0)[shown],
                    )
                    for place, delta in enumerate(_DELTAS)
                }
            ),
        ),
        Panel(
            f"Wide networks on {name}, delta 1",
            "width",
            "over that of the start",
            lines(
                {
                    "distance from the start": (
                        widths,
                        [run.moved[-1].mean() for run in runs.values()],
                    ),
                    "change of the smallest eigenvalue": (
                        widths,
                        [abs(run.kernels[-1, :, 0] - 1).mean() for run in runs.values()],
                    ),
                    "change of the largest eigenvalue": (
                        widths,
                        [abs(run.kernels[-1, :, 1] - 1).mean() for run in runs.values()],
                    ),
                },
                theory={
                    "width$^{-1/2}$": (
                        widths,
                        runs[widths[0]].moved[-1].mean() * np.sqrt(widths[0] / np.array(widths)),
                    )
                },
                marker="o",
            ),
        ),
    ]
