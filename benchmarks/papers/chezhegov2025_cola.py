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
    Setting,
    measure_noise,
    train,
)
from benchmarks.papers.claims import Claim, Source, at_most, within
from benchmarks.papers.datasets import Sentences, sentences
from benchmarks.papers.draw import bands, lines
from benchmarks.papers.encoder import (
    PACKAGES,
    Classifier,
    Size,
    fill,
    pretrained_folder,
    read,
    tokenizer,
)
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
      rates: Learning rates of Adam to choose from.
      shares: Of the authors' thresholds, and
      multiples: of Adam's learning rate for the delayed method, to choose from.
      choosing_seeds: Runs for each choice.
      choosing_steps: Of such a run.
      noise: Minibatch gradients at a point.
    """

    seeds: int
    steps: int
    records: int
    rates: tuple[float, ...]
    shares: tuple[float, ...]
    multiples: tuple[float, ...]
    choosing_seeds: int
    choosing_steps: int
    noise: int


_CHOICES = (1.0, 0.1, 0.01), (1.0, 10.0, 100.0)
_PRETRAINED = _Amount(10, 96, 3, (1e-5, 3e-5, 1e-4), *_CHOICES, 2, 64, 400)
_SMALL = _Amount(20, 200, 5, (3e-4, 1e-3, 3e-3), *_CHOICES, 4, 100, 1000)
_QUICK = _Amount(3, 40, 4, (1e-3,), (0.1,), (10.0,), 0, 0, 100)


def cola(options: Options) -> Outcome:
    """Bands of the validation loss over seeds, and the tails of the gradient's noise.

    A seed sets the last layer's first weights and the order of the data. The learning rate rises
    over a tenth of the steps and falls to zero, as in the authors' code.
    """
    folder = None if options.quick or options.data_dir is None else pretrained_folder()
    problem = _small(sentences(None)) if folder is None else _pretrained(options, folder)
    amount = _QUICK if options.quick else _SMALL if folder is None else _PRETRAINED
    settings = _settings(options, problem, amount)
    runs = {
        name: [
            _run(options, problem, name, setting, seed, amount.steps, amount.records)
            for seed in range(options.seed, options.seed + amount.seeds)
        ]
        for name, setting in list(settings.items())[: 2 if options.quick else None]
    }
    # The paper says nothing about an encoder that nobody has trained.
    source: Source = "ours" if folder is None else "paper"
    claims, panels = _compare(problem.name, _guess(problem), runs, amount, source)
    for when in ("at the start", "after training"):
        noise = _noise(options, problem, amount, settings["Adam"], when)
        claims += _heavier(f"{problem.name}, {when}", noise, source)
        panels.append(_histogram(f"{problem.name}: gradient noise {when}", noise))
    notes = [_note(options, problem, amount, settings, runs)]
    return Outcome(claims, panels, notes)


def _pretrained(options: Options, folder: Path) -> Problem:
    data = sentences(options.data_dir)
    cut = tokenizer(folder)
    train_words, held_words = cut(data.train), cut(data.validation)
    # Word pieces that do not occur would have no gradient: their rows are left out.
    kept = np.unique(np.concatenate(train_words + held_words))
    model = Classifier(Size(len(kept)), _classes(data), rngs=nnx.Rngs(0))
    fill(model, read(folder), kept)
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
        data.name, model, encoded[0], data.train_classes, encoded[1], data.validation_classes, 320
    )


def _classes(data: Sentences) -> int:
    return int(data.train_classes.max()) + 1


def _settings(options: Options, problem: Problem, amount: _Amount) -> dict[str, Setting]:
    """As in the paper: the rate by Adam, then thresholds at that rate; as many runs for each.

    The delayed method has a rate of its own, as its first divisor is not Adam's.
    """

    def best(name: str, *candidates: Setting) -> Setting:
        if len(candidates) == 1:
            return candidates[0]
        first = options.seed + _CHOOSING
        last = [
            [
                _run(options, problem, name, setting, seed, amount.choosing_steps, 1).losses[-1]
                for seed in range(first, first + amount.choosing_seeds)
            ]
            for setting in candidates
        ]
        return candidates[int(np.argmin(np.mean(last, axis=1)))]

    found = {"Adam": best("Adam", *(Setting(rate, math.inf) for rate in amount.rates))}
    rate = found["Adam"].rate
    for name in ("Clip-Adam, leaves", "Clip-Adam, entries"):
        levels = [share * METHODS[name].threshold for share in amount.shares]
        found[name] = best(name, *(Setting(rate, level) for level in levels))
    level = found["Clip-Adam, leaves"].threshold
    name = "Clip-AdamD, leaves"
    found[name] = best(name, *(Setting(rate * times, level) for times in amount.multiples))
    return found


def _run(
    options: Options,
    problem: Problem,
    name: str,
    setting: Setting,
    seed: int,
    steps: int,
    records: int,
) -> Run:
    key = f"{problem.name} {name} rate {setting.rate:g} threshold {setting.threshold:g}"
    key = f"{key} seed {seed} steps {steps} records {records}"

    def make() -> dict[str, np.ndarray]:
        run = train(problem, METHODS[name], setting, seed, steps, records)[0]
        return {field: np.asarray(value) for field, value in vars(run).items()}

    found = remembered(None if options.quick else options.runs, key, make)
    return Run(found["losses"], float(found["correlation"]), float(found["clipped"]))


def _noise(
    options: Options, problem: Problem, amount: _Amount, adam: Setting, when: str
) -> np.ndarray:
    """Noise at the first seed's start, or at the end of its run of Adam."""
    key = f"{problem.name} noise of {amount.noise} batches {when} seed {options.seed}"
    if when == "after training":
        key = f"{key} rate {adam.rate:g} steps {amount.steps}"

    def make() -> dict[str, np.ndarray]:
        params = problem.start(options.seed)
        if when == "after training":
            params = train(problem, METHODS["Adam"], adam, options.seed, amount.steps, 1)[1]
        return {"noise": measure_noise(problem, params, options.seed, amount.noise)}

    return remembered(None if options.quick else options.runs, key, make)["noise"]


def _compare(
    data: str, guess: float, runs: dict[str, list[Run]], amount: _Amount, source: Source
) -> tuple[list[Claim], list[Panel]]:
    """Each clipped version beside Adam: the last validation loss over seeds, and the curves."""
    last = {name: np.array([run.losses[-1] for run in some]) for name, some in runs.items()}
    statistics: dict[str, Statistic] = {
        "median": _median,
        "95 % point": lambda x: np.quantile(x, 0.95, axis=-1),
        "width from 5 to 95 %": lambda x: np.ptp(np.quantile(x, (0.05, 0.95), axis=-1), axis=0),
    }
    claims = []
    limit = 1.0 if source == "paper" else 1.01  # ours: a clip costs nothing
    for name in list(runs)[1:]:
        for what, of in statistics.items():
            if amount.seeds < 10 and of is not _median:
                continue  # of so few seeds there is no such percentile

            def ratio(x: np.ndarray, y: np.ndarray, of: Statistic = of) -> np.ndarray:
                return of(x) / of(y)

            pair = last[name], last["Adam"]
            title = f"{data}, {name}: last validation loss over Adam's, {what}"
            interval = bootstrap(ratio, *pair)
            claims.append(at_most(title, limit, ratio(*pair), source=source, interval=interval))
    correlations = {
        name: np.array([run.correlation for run in some]) for name, some in runs.items()
    }
    title = f"{data}, Adam: last validation loss over that of guessing by frequency, median"
    over = last["Adam"] / guess
    interval = bootstrap(_median, over)
    claims.append(at_most(title, limit, _median(over), source="ours", interval=interval))
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


def _guess(problem: Problem) -> float:
    """Validation loss of the classes' frequencies in the validation set."""
    base = np.bincount(problem.validation_classes) / len(problem.validation)
    return -float(np.sum(base[base > 0] * np.log(base[base > 0])))


def _median(x: np.ndarray) -> np.ndarray:
    return np.median(x, axis=-1)


def _heavier(place: str, noise: np.ndarray, source: Source) -> list[Claim]:
    """Outliers are more frequent than a normal's: more than one. Intervals are over batches."""
    claims = []
    fields = {1.5: "relative_moderate", 3: "relative_extreme"}
    for reach, field in fields.items():
        if source == "ours" and reach == 3:
            continue  # the small encoder has none there

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
    settings: dict[str, Setting],
    runs: dict[str, list[Run]],
) -> str:
    if options.quick or options.data_dir is None:
        what = "a small encoder, not pre-trained (that takes --data-dir, and no --quick)"
    elif pretrained_folder() is None:
        what = f"a small encoder, not pre-trained (that takes {', '.join(PACKAGES)})"
    else:
        what = (
            "the pre-trained all-MiniLM-L6-v2 (six layers of width 384), where the paper has "
            "ALBERT-base"
        )
    chosen = [f"{name} {settings[name].rate:g}, {settings[name].threshold:g}" for name in runs]
    clipped = [
        f"{name} {100 * np.mean([run.clipped for run in some]):.2g} %"
        for name, some in list(runs.items())[1:]
    ]
    words = [
        f"{problem.name}: {what}; {amount.steps} steps of {BATCH} sentences, {amount.seeds} seeds "
        f"(the paper: one epoch, here {len(problem.train) // BATCH} steps, 100 seeds, rate 1e-5)",
        f"rates and thresholds {', '.join(chosen)}",
        f"leaves or entries clipped {', '.join(clipped)}",
        f"last validation loss (5, 50, 95 %; guessing by frequency {_guess(problem):.4f}) "
        + _percentiles(runs, lambda run: run.losses[-1]),
        "Matthews correlation (0: one class for all) "
        + _percentiles(runs, lambda run: run.correlation),
        f"noise of {amount.noise} batches.",
    ]
    return "; ".join(words)


def _percentiles(runs: dict[str, list[Run]], of: Callable[[Run], float]) -> str:
    found = {n: np.quantile([of(run) for run in some], _PERCENTILES) for n, some in runs.items()}
    return ", ".join(f"{name} {x[0]:.4f} {x[1]:.4f} {x[2]:.4f}" for name, x in found.items())
