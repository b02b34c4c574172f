"""Fine-tuning a pre-trained encoder on CoLA by Adam, with and without a clip.

S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is Heavy-Tailed",
arXiv 2406.04443: on CoLA, where the noise is heavy-tailed, Adam with clipping outperforms Adam
without, with a narrower band of the validation loss from the 5 % to the 95 % point of 100 runs.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flax import nnx

from benchmarks.papers.chezhegov2025_bands import (
    compare,
    guess,
    heavier,
    histogram,
    percentiles,
)
from benchmarks.papers.chezhegov2025_tuning import (
    BATCH,
    METHODS,
    SCHEDULE,
    Problem,
    Run,
    Setting,
    measure_noise,
    train,
)
from benchmarks.papers.claims import Source
from benchmarks.papers.datasets import Sentences, sentences
from benchmarks.papers.encoder import (
    PACKAGES,
    Classifier,
    Size,
    fill,
    pretrained_folder,
    read,
    tokenizer,
)
from benchmarks.papers.kept import remembered
from benchmarks.papers.paper import Options, Outcome
from benchmarks.papers.threads import map_runs, map_threads

__all__ = ["cola"]

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


# 534 steps are one epoch. Half of it is too short to choose by: at no rate is anything learnt then.
# Single runs narrowed the choice: losses were higher at rates of 3e-6 and 1e-4, at a hundredth of
# the authors' thresholds, and at ten times the rate with a delay.
_PRETRAINED = _Amount(10, 534, 6, (1e-5, 3e-5), (1.0, 0.1), (100.0, 1000.0), 1, 534, 1000)
_SMALL = _Amount(20, 200, 5, (3e-4, 1e-3, 3e-3), (1.0, 0.1, 0.01), (1.0, 10.0, 100.0), 4, 100, 1000)
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
    seeds = range(options.seed, options.seed + amount.seeds)
    names = list(settings)[: 2 if options.quick else None]

    def run(name: str, seed: int) -> Run:
        return _run(options, problem, name, settings[name], seed, amount.steps, amount.records)

    runs = map_runs(run, names, seeds)
    # The paper says nothing about an encoder that nobody has trained.
    source: Source = "ours" if folder is None else "paper"
    times = amount.steps // amount.records * np.arange(1, amount.records + 1)
    claims, panels = compare(problem, runs, times, source)
    places = "at the start", "after training"
    noises = map_threads(
        lambda when: _noise(options, problem, amount, settings["Adam"], when), places
    )
    for when, noise in zip(places, noises, strict=True):
        claims += heavier(f"{problem.name}, {when}", noise, source)
        panels.append(histogram(f"{problem.name}: gradient noise {when}", noise))
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
        data.name, model, encoded[0], data.train_classes, encoded[1], data.validation_classes, 80
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
        seeds = range(first, first + amount.choosing_seeds)
        done = map_runs(
            lambda setting, seed: _run(
                options, problem, name, setting, seed, amount.choosing_steps, 1
            ).losses[-1],
            candidates,
            seeds,
        )
        # A run that diverged is not chosen.
        last = [np.nan_to_num(np.mean(losses), nan=math.inf) for losses in done.values()]
        return candidates[int(np.argmin(last))]

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
    method = METHODS[name]
    key = f"{_identify(problem)} {method.clip} delay {method.delay} b {method.b_init:g}"
    key = f"{key} rate {setting.rate:g} threshold {setting.threshold:g} {SCHEDULE}"
    key = f"{key} seed {seed} steps {steps} records {records}"

    def make() -> dict[str, np.ndarray]:
        run = train(problem, method, setting, seed, steps, records)[0]
        return {field: np.asarray(value) for field, value in vars(run).items()}

    found = remembered(None if options.quick else options.runs, key, make)
    return Run(found["losses"], float(found["correlation"]), float(found["clipped"]))


def _identify(problem: Problem) -> str:
    """Names the data of a run that is kept."""
    return f"{problem.name} {len(problem.train)} + {len(problem.validation)}"


def _noise(
    options: Options, problem: Problem, amount: _Amount, adam: Setting, when: str
) -> np.ndarray:
    """Noise at the first seed's start, or at the end of its run of Adam."""
    key = f"{_identify(problem)} noise of {amount.noise} batches of {BATCH} {when}"
    key = f"{key} seed {options.seed}"
    if when == "after training":
        key = f"{key} rate {adam.rate:g} steps {amount.steps} {SCHEDULE}"

    def make() -> dict[str, np.ndarray]:
        params = problem.start(options.seed)
        if when == "after training":
            params = train(problem, METHODS["Adam"], adam, options.seed, amount.steps, 1)[1]
        return {"noise": measure_noise(problem, params, options.seed, amount.noise)}

    return remembered(None if options.quick else options.runs, key, make)["noise"]


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
        f"{problem.name}: {what}; {amount.steps} steps of {BATCH} sentences (an epoch is "
        f"{len(problem.train) // BATCH}), {amount.seeds} seeds (the paper: an epoch, 100 seeds, "
        "rate 1e-5)",
        f"rates and thresholds {', '.join(chosen)}{_tell_choice(amount)}",
        f"leaves or entries clipped {', '.join(clipped)}",
        f"last validation loss (5, 50, 95 %; guessing by frequency {guess(problem):.4f}) "
        + percentiles(runs, lambda run: run.losses[-1]),
        "Matthews correlation (0: one class for all) "
        + percentiles(runs, lambda run: run.correlation),
        f"noise of {amount.noise} batches.",
    ]
    return "; ".join(words)


def _tell_choice(amount: _Amount) -> str:
    if not amount.choosing_seeds:
        return ""
    seeds = "another seed" if amount.choosing_seeds == 1 else f"{amount.choosing_seeds} other seeds"
    after = f"after {amount.choosing_steps} steps from {seeds}"
    tried = len(amount.rates)
    return f" (each the best of {tried} by the loss on the same validation set, {after})"
