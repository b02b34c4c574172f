"""Fine-tuning a pre-trained encoder on CoLA by Adam, with and without a clip.

S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is Heavy-Tailed",
arXiv 2406.04443: on CoLA, where the noise is heavy-tailed, Adam with clipping outperforms Adam
without, with a narrower band of the validation loss from the 5 % to the 95 % point of 100 runs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flax import nnx
from matplotlib.axes import Axes
from scipy.stats import norm

from benchmarks.papers.chezhegov2025_tuning import (
    BATCH,
    METHODS,
    Problem,
    Run,
    measure_noise,
    train,
)
from benchmarks.papers.claims import Claim, Source, at_most, within
from benchmarks.papers.datasets import Sentences, sentences
from benchmarks.papers.draw import bands, lines
from benchmarks.papers.encoder import PACKAGES, Classifier, Size, load, pretrained_folder, tokenizer
from benchmarks.papers.intervals import bootstrap
from benchmarks.papers.kept import remembered
from benchmarks.papers.paper import Options, Outcome, Panel
from clipax.diagnostics import tail_shares

__all__ = ["cola"]

Statistic = Callable[[np.ndarray], np.ndarray]
_PERCENTILES = (0.05, 0.5, 0.95)
_CHOOSING = 1000  # the first of the seeds by which learning rates are chosen


@dataclass(frozen=True)
class _Amount:
    """How much to run.

    Attributes:
      seeds: Runs of each method.
      steps: Of a run.
      records: How often in it the validation loss is computed.
      rates: The learning rates to choose from; one: there is no choice.
      choosing_seeds: Runs for each of the rates.
      choosing_steps: Of such a run.
      noise: Minibatch gradients at a point.
    """

    seeds: int
    steps: int
    records: int
    rates: tuple[float, ...]
    choosing_seeds: int
    choosing_steps: int
    noise: int


_PRETRAINED = _Amount(10, 96, 3, (1e-4, 3e-4, 1e-3), 2, 48, 600)
_SMALL = _Amount(20, 200, 5, (3e-4, 1e-3, 3e-3), 4, 100, 1000)
_QUICK = _Amount(3, 40, 4, (1e-3,), 0, 0, 100)


def cola(options: Options) -> Outcome:
    """Bands of the validation loss over seeds, and the tails of the gradient's noise.

    A seed sets the last layer's first weights and the order of the data. The learning rate rises
    over a tenth of the steps and falls to zero, as in the authors' code, and is chosen for every
    method from the same ones, by the mean of the last validation loss over seeds of its own.
    """
    folder = None if options.quick or options.data_dir is None else pretrained_folder()
    problem = _small(sentences(None)) if folder is None else _pretrained(options, folder)
    amount = _QUICK if options.quick else _SMALL if folder is None else _PRETRAINED
    methods = list(METHODS)[:2] if options.quick else list(METHODS)
    rates = {name: _choose(options, problem, amount, name) for name in methods}
    runs = {
        name: [
            _run(options, problem, name, rates[name], options.seed + seed, amount.steps, amount)
            for seed in range(amount.seeds)
        ]
        for name in methods
    }
    # The paper says nothing about an encoder that nobody has trained.
    source: Source = "ours" if folder is None else "paper"
    claims, panels = _compare(problem.name, runs, amount, source)
    for when in ("at the start", "after training"):
        noise = _noise(options, problem, amount, rates["Adam"], when)
        claims += _heavier(f"{problem.name}, {when}", noise, source)
        panels.append(_histogram(f"{problem.name}: gradient noise {when}", noise))
    return Outcome(claims, panels, [_note(options, problem, amount, rates, runs, folder is None)])


def _pretrained(options: Options, folder: Path) -> Problem:
    data = sentences(options.data_dir)
    cut = tokenizer(folder)
    train_words, held_words = cut(data.train), cut(data.validation)
    # Word pieces that do not occur would have no gradient: their rows are left out.
    kept = np.unique(np.concatenate(train_words + held_words))
    model = Classifier(Size(len(kept)), _classes(data), rngs=nnx.Rngs(0))
    load(model, folder, kept)
    return Problem(
        data.name,
        model,
        [np.searchsorted(kept, sentence) for sentence in train_words],
        data.train_classes,
        [np.searchsorted(kept, sentence) for sentence in held_words],
        data.validation_classes,
    )


def _small(data: Sentences) -> Problem:
    """Whole words: 0 stands for what is rare, 1 and 2 are before and after a sentence."""
    split = [[line.lower().split() for line in part] for part in (data.train, data.validation)]
    counts = Counter(word for line in split[0] for word in line)
    numbers = {word: place for place, (word, _) in enumerate(counts.most_common(997), start=3)}
    encoded = [
        [np.array([1, *(numbers.get(word, 0) for word in line[:60]), 2]) for line in part]
        for part in split
    ]
    size = Size(1000, places=62, width=32, inner=64, layers=2, heads=2)
    model = Classifier(size, _classes(data), rngs=nnx.Rngs(0))
    return Problem(
        data.name, model, encoded[0], data.train_classes, encoded[1], data.validation_classes
    )


def _classes(data: Sentences) -> int:
    return int(data.train_classes.max()) + 1


def _choose(options: Options, problem: Problem, amount: _Amount, name: str) -> float:
    """The rate of the smallest mean of last validation losses, over seeds of its own."""
    if len(amount.rates) == 1:
        return amount.rates[0]
    seeds = range(options.seed + _CHOOSING, options.seed + _CHOOSING + amount.choosing_seeds)
    last = [
        np.mean(
            [
                _run(options, problem, name, rate, seed, amount.choosing_steps, None).losses[-1]
                for seed in seeds
            ]
        )
        for rate in amount.rates
    ]
    return amount.rates[int(np.argmin(last))]


def _run(
    options: Options,
    problem: Problem,
    name: str,
    rate: float,
    seed: int,
    steps: int,
    amount: _Amount | None,
) -> Run:
    """A run, with the validation loss at its end only where no amount is given."""
    records = 1 if amount is None else amount.records
    key = f"{problem.name} {name} rate {rate:g} seed {seed} steps {steps} records {records}"

    def make() -> dict[str, np.ndarray]:
        run = train(problem, METHODS[name], rate, seed, steps, records)[0]
        return {field: np.asarray(value) for field, value in vars(run).items()}

    found = remembered(None if options.quick else options.runs, key, make)
    return Run(found["losses"], float(found["correlation"]), float(found["clipped"]))


def _noise(
    options: Options, problem: Problem, amount: _Amount, rate: float, when: str
) -> np.ndarray:
    """Noise at the first seed's start, or at the end of its run of Adam."""
    key = f"{problem.name} noise {when} rate {rate:g} seed {options.seed} steps {amount.steps}"

    def make() -> dict[str, np.ndarray]:
        params = problem.start(options.seed)
        if when == "after training":
            params = train(problem, METHODS["Adam"], rate, options.seed, amount.steps, 1)[1]
        return {"noise": measure_noise(problem, params, options.seed, amount.noise)}

    kept = None if options.quick else options.runs
    return remembered(kept, f"{key} batches {amount.noise}", make)["noise"]


def _compare(
    data: str, runs: dict[str, list[Run]], amount: _Amount, source: Source
) -> tuple[list[Claim], list[Panel]]:
    """Each clipped version beside Adam: the last validation loss over seeds, and the curves."""
    last = {name: np.array([run.losses[-1] for run in some]) for name, some in runs.items()}
    statistics: dict[str, Statistic] = {
        "median": lambda x: np.median(x, axis=-1),
        "95 % point": lambda x: np.quantile(x, 0.95, axis=-1),
        "width from 5 to 95 %": lambda x: np.ptp(np.quantile(x, (0.05, 0.95), axis=-1), axis=0),
    }
    claims = []
    for name in list(runs)[1:]:
        for what, of in statistics.items():

            def ratio(x: np.ndarray, y: np.ndarray, of: Statistic = of) -> np.ndarray:
                return of(x) / of(y)

            pair = last[name], last["Adam"]
            title = f"{data}, {name}: last validation loss over Adam's, {what}"
            interval = bootstrap(ratio, *pair)
            claims.append(at_most(title, 1.0, ratio(*pair), source=source, interval=interval))
    correlations = {
        name: np.array([run.correlation for run in some]) for name, some in runs.items()
    }
    learned = correlations["Adam"]
    title = f"{data}, Adam: Matthews correlation at the end, median"
    interval = bootstrap(statistics["median"], learned)
    claims.append(within(title, (0.0, 1.0), np.median(learned), source="ours", interval=interval))
    times = amount.steps // amount.records * np.arange(1, amount.records + 1)
    curves = {
        name: (times, np.quantile([run.losses for run in some], _PERCENTILES, axis=0))
        for name, some in runs.items()
    }
    numbers = np.arange(amount.seeds)
    points = {name: (numbers, found) for name, found in correlations.items()}
    panels = [
        Panel(
            f"{data}: validation loss, {amount.seeds} seeds",
            "step",
            "validation loss: median, 5-95 %",
            bands(curves, scales=("linear", "linear")),
        ),
        Panel(
            f"{data}: Matthews correlation at the end",
            "seed",
            "Matthews correlation",
            lines(points, scales=("linear", "linear"), joined=False),
        ),
    ]
    return claims, panels


def _heavier(place: str, noise: np.ndarray, source: Source) -> list[Claim]:
    """Outliers are more frequent than a normal's: more than one. Intervals are over batches."""
    claims = []
    for reach, field in ((1.5, "relative_moderate"), (3, "relative_extreme")):

        def share(x: np.ndarray, field: str = field) -> np.ndarray:
            return np.apply_along_axis(lambda row: getattr(tail_shares(row), field), -1, x)

        title = f"{place}: gradient noise beyond Q3 + {reach:g} IQR over a normal's"
        interval = bootstrap(share, noise)
        claims.append(
            within(title, (1.0, math.inf), share(noise), source=source, interval=interval)
        )
    return claims


def _histogram(title: str, noise: np.ndarray) -> Panel:
    q1, q3 = np.quantile(noise, (0.25, 0.75))

    def draw(axes: Axes) -> None:
        _, edges, _ = axes.hist(noise, bins=50, color="0.6", log=True)
        x = np.linspace(edges[0], edges[-1], 200)
        density = norm.pdf(x, noise.mean(), noise.std()) * len(noise) * (edges[1] - edges[0])
        axes.plot(x, density, color="black", label="normal, same mean and deviation")
        for place, reach in enumerate((1.5, 3.0)):
            label = f"Q3 + {reach:g} IQR"
            axes.axvline(q3 + reach * (q3 - q1), color=f"C{place}", linestyle="--", label=label)
        axes.set_ylim(bottom=0.5)
        axes.legend()

    return Panel(title, "distance of a batch's gradient from the whole one", "batches", draw)


def _note(
    options: Options,
    problem: Problem,
    amount: _Amount,
    rates: dict[str, float],
    runs: dict[str, list[Run]],
    small: bool,
) -> str:
    if not small:
        what = (
            "the pre-trained all-MiniLM-L6-v2 (six layers of width 384), not ALBERT-base of the "
            "paper; word pieces that do not occur are left out"
        )
    else:
        missing = ", ".join(PACKAGES)
        if options.quick:
            why = "quick"
        elif options.data_dir is None:
            why = "no --data-dir"
        else:
            why = f"one of {missing} is not installed"
        what = f"a small encoder that is not pre-trained ({why})"
    epoch = len(problem.train) // BATCH
    base = np.bincount(problem.validation_classes) / len(problem.validation)
    guess = -np.sum(base[base > 0] * np.log(base[base > 0]))
    words = [
        f"{problem.name}: {what}; {amount.steps} steps of {BATCH} sentences (an epoch has {epoch}; "
        f"the paper takes one, 100 runs and the rate 1e-5), {amount.seeds} seeds",
        f"learning rates of {', '.join(f'{rate:g}' for rate in amount.rates)}: "
        + ", ".join(f"{name} {rate:g}" for name, rate in rates.items()),
        f"last validation loss (5, 50, 95 %; guessing by frequency {guess:.4f}): "
        + _percentiles(runs, lambda run: run.losses[-1]),
        "Matthews correlation: " + _percentiles(runs, lambda run: run.correlation),
        "clipped leaves or entries: "
        + ", ".join(
            f"{name} {100 * np.mean([run.clipped for run in some]):.2g} %"
            for name, some in runs.items()
            if name != "Adam"
        ),
        f"noise of {amount.noise} batches",
    ]
    return "; ".join(words) + "."


def _percentiles(runs: dict[str, list[Run]], of: Callable[[Run], float]) -> str:
    found = {n: np.quantile([of(run) for run in some], _PERCENTILES) for n, some in runs.items()}
    return ", ".join(f"{name} {x[0]:.4f} {x[1]:.4f} {x[2]:.4f}" for name, x in found.items())
