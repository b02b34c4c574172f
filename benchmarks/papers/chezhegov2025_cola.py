"""Adam with and without a clip on CoLA, by a small transformer.

S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is Heavy-Tailed",
arXiv 2406.04443. The paper fine-tunes the pre-trained ALBERT-base. This is not it: a transformer of
one layer, trained from scratch, with learning rates of its own. By default it learns which of
scikit-learn's descriptions a line is from.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes

import clipax
from benchmarks.papers.claims import at_most, within
from benchmarks.papers.datasets import Sentences, sentences
from benchmarks.papers.draw import bands
from benchmarks.papers.paper import Options, Outcome, Panel
from clipax.diagnostics import gradient_noise, tail_shares

__all__ = ["cola"]

_BATCH, _LENGTH, _WORDS = 16, 20, 1000
_RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
_QUICK_RATE = 1e-3
_PERCENTILES = (0.05, 0.5, 0.95)
# The thresholds are the paper's for CoLA; Adam is the same code with an infinite one.
_METHODS: dict[str, tuple[float, dict[str, Any]]] = {
    "Adam": (math.inf, {"clip": "leaf"}),
    "Clip-Adam, leaves": (1.0, {"clip": "leaf"}),
    "Clip-Adam, entries": (0.02, {"clip": "coordinate"}),
    "Clip-AdamD, leaves": (1.0, {"clip": "leaf", "delay": 1}),
}
Params = dict[str, jax.Array]


def cola(options: Options) -> Outcome:
    """Bands of the validation loss over seeds, and the tails of the gradient's noise.

    One epoch of batches of 16 (as often as makes 100 steps on a smaller set), 10 % warm-up to a
    constant learning rate, which is chosen for every method among five by the median of the last
    validation loss over the first quarter of the seeds.
    """
    data = sentences(options.data_dir)
    seeds, width = (3, 8) if options.quick else (20, 32)
    tokens, held = _encode(data)
    classes = int(data.train_classes.max()) + 1
    epochs = max(1, round(100 * _BATCH / len(tokens)))
    records = 4 if options.quick else 10
    steps = 40 if options.quick else epochs * len(tokens) // _BATCH // records * records
    orders = [_order(options.seed + seed, len(tokens), steps) for seed in range(seeds)]
    picks = jnp.asarray(np.stack(orders, axis=1).reshape(records, steps // records, seeds, _BATCH))
    drawn = [_init(options.seed + seed, width, classes) for seed in range(seeds)]
    params = {name: jnp.asarray(np.stack([one[name] for one in drawn])) for name in drawn[0]}
    train = (jnp.asarray(tokens), jnp.asarray(data.train_classes))
    validation = (jnp.asarray(held), jnp.asarray(data.validation_classes))
    methods = dict(list(_METHODS.items())[:2]) if options.quick else _METHODS
    pilot, rates, curves, trained = max(1, seeds // 4), {}, {}, params
    clipped: dict[str, float] = {}
    runners: dict[Any, Callable[..., tuple[Params, jax.Array, jax.Array]]] = {}
    for name, (threshold, keywords) in methods.items():
        # One program for Adam and its clip by leaves: they differ by a number.
        kind = tuple(sorted(keywords.items()))
        if kind not in runners:
            runners[kind] = _runner(keywords, steps, train, validation)
        run = partial(runners[kind], threshold)
        rates[name] = _QUICK_RATE
        if not options.quick:
            few = jax.tree.map(lambda x: x[:pilot], params)
            last = [np.median(run(rate, few, picks[:, :, :pilot])[1][-1]) for rate in _RATES]
            rates[name] = _RATES[int(np.argmin(last))]
        final, curve, share = run(rates[name], params, picks)
        if keywords["clip"] == "leaf":  # no norm is measured where entries are clipped
            clipped[name] = float(share)
        curves[name] = np.asarray(curve)
        if name == "Adam":
            trained = final
    ends = {name: np.quantile(curve[-1], _PERCENTILES) for name, curve in curves.items()}
    claims = []
    for name in list(methods)[1:]:
        title = f"{data.name}, {name}: last validation loss over Adam's"
        claims.append(at_most(f"{title}, medians", 1.01, ends[name][1] / ends["Adam"][1]))
        if not options.quick:  # of three seeds there is no such percentile
            upper = _upper(curves[name][-1], curves["Adam"][-1])
            claims.append(at_most(f"{title}, 95 % points, upper end of the ratio", 1.0, upper))
    times = steps // records * np.arange(1, records + 1)
    drawn_bands = {
        name: (times, np.quantile(curve, _PERCENTILES, axis=1)) for name, curve in curves.items()
    }
    title = f"{data.name}: validation loss, {seeds} seeds"
    drawing = bands(drawn_bands, scales=("linear", "linear"))
    panels = [Panel(title, "step", "validation loss: median, 5-95 %", drawing)]
    places = (
        {"at the start": params}
        if options.quick
        else {"at the start": params, "after training": trained}
    )
    rng = np.random.default_rng(options.seed)
    rows = rng.integers(len(tokens), size=(100 if options.quick else 1000, _BATCH))
    batches = [(train[0][batch], train[1][batch]) for batch in rows]
    for when, tree in places.items():
        one = jax.tree.map(lambda x: x[0], tree)
        noise = gradient_noise(jax.grad(_loss), one, batches)
        shares = tail_shares(noise)
        title = f"{data.name}, {when}: gradient noise beyond Q3 + {{}} IQR over a normal's"
        # More than one: the tail is heavier than a normal's.
        claims.append(within(title.format(1.5), (1.0, math.inf), shares.relative_moderate))
        if not options.quick:  # of few batches none lies there
            claims.append(within(title.format(3), (1.0, math.inf), shares.relative_extreme))
        panels.append(_histogram(f"{data.name}: gradient noise {when}", noise))
    base = np.bincount(data.validation_classes) / len(held)
    note = (
        f"{data.name}: a transformer of one layer and width {width} from scratch, not the "
        f"pre-trained ALBERT; {steps} steps, {seeds} seeds, learning rates "
        + ", ".join(f"{name} {rate:g}" for name, rate in rates.items())
        + "; last validation loss (5, 50, 95 %) "
        + ", ".join(f"{n} {e[0]:.4f} {e[1]:.4f} {e[2]:.4f}" for n, e in ends.items())
        + f"; guessing by frequency {-np.sum(base[base > 0] * np.log(base[base > 0])):.4f}; "
        + "clipped leaves, a mean over steps, "
        + ", ".join(f"{name} {100 * share:.2g} %" for name, share in clipped.items())
        + "."
    )
    return Outcome(claims, panels, [note])


def _upper(losses: np.ndarray, others: np.ndarray) -> float:
    """Upper end of a 95 % interval of the ratio of 95 % points: seeds drawn again, in pairs."""
    picks = np.random.default_rng(0).integers(len(losses), size=(2000, len(losses)))
    ratios = np.quantile(losses[picks], 0.95, axis=1) / np.quantile(others[picks], 0.95, axis=1)
    return float(np.quantile(ratios, 0.975))


def _encode(data: Sentences) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the most frequent words; 0 pads, 1 is any other word."""
    split = [[line.lower().split() for line in part] for part in (data.train, data.validation)]
    counts = Counter(word for line in split[0] for word in line)
    numbers = {word: i for i, (word, _) in enumerate(counts.most_common(_WORDS - 2), start=2)}
    encoded = []
    for part in split:
        rows = np.zeros((len(part), _LENGTH), np.int32)
        for row, line in zip(rows, part, strict=True):
            row[: len(line)] = [numbers.get(word, 1) for word in line[:_LENGTH]]
        encoded.append(rows)
    return encoded[0], encoded[1]


def _order(seed: int, rows: int, steps: int) -> np.ndarray:
    """Rows of each step: the data in a new order every epoch."""
    rng = np.random.default_rng(seed)
    epochs = -(-steps * _BATCH // rows)
    every = np.concatenate([rng.permutation(rows) for _ in range(epochs)])
    return every[: steps * _BATCH].reshape(steps, _BATCH)


def _init(seed: int, width: int, classes: int) -> dict[str, np.ndarray]:
    shapes = {
        "words": (_WORDS, width),
        "places": (_LENGTH, width),
        "qkv": (width, 3 * width),
        "mix": (width, width),
        "up": (width, 4 * width),
        "down": (4 * width, width),
        "out": (width, classes),
    }
    rng = np.random.default_rng((seed, 1))
    biases = {"up_bias": 4 * width, "out_bias": classes}
    params = {name: np.zeros(size, np.float32) for name, size in biases.items()}
    for name, shape in shapes.items():
        deviation = 0.1 if name in ("words", "places") else shape[0] ** -0.5
        params[name] = (deviation * rng.normal(size=shape)).astype(np.float32)
    return params


def _loss(params: Params, tokens: jax.Array, classes: jax.Array) -> jax.Array:
    """Cross-entropy; one block, two heads, layers normalised before them, mean over words."""

    def normed(x: jax.Array) -> jax.Array:
        x = x - x.mean(axis=-1, keepdims=True)
        return x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-5)

    there = tokens > 0
    x = params["words"][tokens] + params["places"]
    heads = (normed(x) @ params["qkv"]).reshape(*tokens.shape, 3, 2, -1)
    q, k, v = jnp.moveaxis(heads, -3, 0)
    mixed = jax.nn.dot_product_attention(q, k, v, mask=there[:, None, None, :])
    x = x + mixed.reshape(x.shape) @ params["mix"]
    x = x + jax.nn.gelu(normed(x) @ params["up"] + params["up_bias"]) @ params["down"]
    x = normed(x) * there[..., None]
    pooled = x.sum(axis=1) / there.sum(axis=1, keepdims=True)
    logits = pooled @ params["out"] + params["out_bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, classes).mean()


def _runner(
    keywords: dict[str, Any],
    steps: int,
    train: tuple[jax.Array, jax.Array],
    validation: tuple[jax.Array, jax.Array],
) -> Callable[[float, float, Params, jax.Array], tuple[Params, jax.Array, jax.Array]]:
    """From these and rows to parameters, losses (records, seeds) and the share of clipped."""

    @jax.jit
    def run(
        threshold: jax.Array, rate: jax.Array, params: Params, picks: jax.Array
    ) -> tuple[Params, jax.Array, jax.Array]:
        warm_up = max(1, steps // 10)

        def schedule(count: jax.Array) -> jax.Array:
            return rate * jnp.minimum(1.0, (count + 1) / warm_up)

        optimizer = clipax.clip_adam(schedule, threshold, **keywords)

        def step(carry: Any, rows: jax.Array) -> tuple[Any, None]:
            params, state = carry
            grads = jax.grad(_loss)(params, train[0][rows], train[1][rows])
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        def record(carry: Any, rows: jax.Array) -> tuple[Any, jax.Array]:
            carry, _ = jax.lax.scan(jax.vmap(step), carry, rows)
            return carry, jax.lax.map(lambda p: _loss(p, *validation), carry[0])

        first = (params, jax.vmap(optimizer.init)(params))
        (params, state), losses = jax.lax.scan(record, first, picks)
        share = jax.vmap(lambda state: clipax.metrics(state)["clip_fraction"])(state)
        return params, losses, share.mean()

    return lambda threshold, rate, params, picks: run(
        jnp.float32(threshold), jnp.float32(rate), params, picks
    )


def _histogram(title: str, noise: np.ndarray) -> Panel:
    q1, q3 = np.quantile(noise, (0.25, 0.75))

    def draw(axes: Axes) -> None:
        axes.hist(noise, bins=50, color="0.6", log=True)
        for place, k in enumerate((1.5, 3.0)):
            label = f"Q3 + {k:g} IQR"
            axes.axvline(q3 + k * (q3 - q1), color=f"C{place}", linestyle="--", label=label)
        axes.legend()

    return Panel(title, "distance of a batch's gradient from the mean", "batches", draw)
