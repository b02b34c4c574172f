"""Mixed clipping on WikiText-2: the four methods train a language model.

B. Zhang, J. Jin, C. Fang, L. Wang, arXiv 2010.02519, with one small LSTM for the most frequent
words of WikiText-2, in place of AWD-LSTM on the Penn Treebank.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from rich.console import Console

from benchmarks.papers import lstm
from benchmarks.papers.claims import at_most
from benchmarks.papers.datasets import words
from benchmarks.papers.draw import bands
from benchmarks.papers.intervals import of_ratio
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

__all__ = ["language"]

# The authors' settings: rate, longest step, share and decay of the momentum, weight decay, soft.
_METHODS = {
    "SGD": Settings(5.0, math.inf, 0.0, 0.0, 1.2e-6, False),
    "clip": Settings(30.0, 7.5, 0.0, 0.0, 1.2e-6, False),
    "momentum clip": Settings(50.0, 2.5, 1.0, 0.9, 1.2e-6, True),
    "mixed clip": Settings(30.0, 5.0, 0.7, 0.999, 1.2e-6, True),
}
# Ours, beside them where rates are searched: are these runs too short for a decay of .999?
_OURS = "mixed clip, decay .9"
_SEARCHED = _METHODS | {_OURS: _METHODS["mixed clip"]._replace(decay=0.9)}
_PAPER = {"SGD": 68.9, "clip": 63.2, "momentum clip": 63.0, "mixed clip": 62.1}


class _Sizes(NamedTuple):
    """Of the data, the network and the runs."""

    vocabulary: int
    width: int
    streams: int  # that are read side by side: the batch
    length: int  # of a backpropagation
    steps: int  # between two evaluations
    evaluations: int
    held: int  # words of the validation text that are used
    seeds: int


_FULL = _Sizes(1000, 64, 20, 35, 500, 4, 35_000, 3)
_BUILT_IN = _Sizes(200, 16, 4, 10, 40, 3, 1000, 2)


# The search: factors of rate and longest step, on a start and a place in the text of its own.
_FACTORS = 0.125, 0.25, 0.5, 1.0, 2.0, 4.0
_SEARCH_SEED = 1000

Run = dict[str, np.ndarray]
Runs = dict[str, list[Run]]  # a run for each seed, by method


def language(options: Options) -> Outcome:
    """Validation perplexities of the four methods: the authors' settings, and rates searched."""
    built_in = options.quick or options.data_dir is None
    data = words(None if built_in else options.data_dir)
    sizes = _BUILT_IN if built_in else _FULL
    train, held = _encode(data.train, data.validation[: sizes.held], sizes.vocabulary)
    step = make_step(lstm.loss)
    console = Console(stderr=True, quiet=built_in)

    def run(name: str, settings: Settings, seed: int, sizes: _Sizes) -> Run:
        make = partial(_train, step, settings, options.seed + seed, train, held, sizes)
        key = (data.name, *sizes, *settings, "seed", options.seed + seed)
        kept = None if built_in else options.runs
        made = remembered(kept, " ".join(map(str, key)), make)
        rate, last = settings.learning_rate, made["perplexities"][-1]
        console.print(f"{data.name}, seed {seed}, {name}, rate {rate:g}: {last:.1f}")
        return made

    def runs(methods: dict[str, Settings]) -> Runs:
        seeds = range(sizes.seeds)
        return map_runs(lambda name, seed: run(name, methods[name], seed, sizes), methods, seeds)

    found = runs(_METHODS)
    panels = [_draw(f"{data.name}, authors' settings", sizes, found)]
    if built_in:  # too little text to say anything of the order
        claims = [
            at_most(
                f"{data.name}, {name}: training loss, last tenth over first",
                1.0,
                float(np.mean([_fall(run["losses"]) for run in found[name]])),
                source="ours",
            )
            for name in found
        ]
        return Outcome(claims, panels, [f"Without WikiText-2 the methods read {data.name}."])
    # As long as the others: after a few steps a momentum that starts at zero wants a larger rate.
    whole = sizes._replace(steps=sizes.steps * sizes.evaluations, evaluations=1)

    def end(name: str, factor: float) -> float:
        settings = _scaled(_SEARCHED[name], factor)
        return float(run(name, settings, _SEARCH_SEED, whole)["perplexities"][-1])

    tried = map_runs(end, _SEARCHED, _FACTORS)
    best = {name: _FACTORS[int(np.nanargmin(values))] for name, values in tried.items()}
    searched = runs({name: _scaled(_SEARCHED[name], factor) for name, factor in best.items()})
    panels.append(_draw(f"{data.name}, rates searched", sizes, searched))
    ends = _ends(searched)
    ours = ends.pop(_OURS)
    what = "WikiText-2, validation perplexity, rates searched"
    ratio, interval = of_ratio(ours, ends["mixed clip"])
    claims = [
        *order("WikiText-2, validation perplexity, authors' settings", _ends(found)),
        *order(what, ends),
        at_most(f"{what}: {_OURS}, over mixed clip", 1.0, ratio, source="ours", interval=interval),
    ]
    notes = [
        _describe(sizes, len(data.train), train),
        f"WikiText-2, validation perplexity at the end, mean of {sizes.seeds} seeds (the paper's "
        f"on the Penn Treebank, read off): {_list_ends(found, _PAPER)}. Norms above the threshold: "
        f"{_list_shares(found)}. Where the clip always acts, every step is as long as the longest "
        f"allowed, {_METHODS['clip'].max_step:g}, whatever the gradient.",
        f"WikiText-2, each method with rate and longest step times the best of "
        f"{', '.join(f'{factor:g}' for factor in _FACTORS)} (by the "
        "validation perplexity of a run as long, from another seed): "
        + "; ".join(f"{name} {factor:g}" for name, factor in best.items())
        + f". Validation perplexity: {_list_ends(searched)}. Norms above the threshold: "
        f"{_list_shares(searched)}. {_list_ratios(sizes, searched)}",
    ]
    return Outcome(claims, panels, notes)


def _list_ratios(sizes: _Sizes, runs: Runs) -> str:
    """Perplexities of mixed clip, at both decays, over momentum clip's, along the runs."""
    after = sizes.steps * np.arange(1, sizes.evaluations + 1)
    means = {
        name: np.mean([run["perplexities"] for run in seeds], axis=0)
        for name, seeds in runs.items()
    }
    ratios = [
        f"{name} {', '.join(f'{ratio:.3f}' for ratio in means[name] / means['momentum clip'])}"
        for name in ("mixed clip", _OURS)
    ]
    return (
        f"Over momentum clip after {', '.join(f'{count:,}' for count in after)} steps: "
        f"{'; '.join(ratios)}."
    )


def _scaled(settings: Settings, factor: float) -> Settings:
    """With another rate and the same threshold on the norm."""
    return settings._replace(
        learning_rate=settings.learning_rate * factor, max_step=settings.max_step * factor
    )


def _ends(runs: Runs) -> dict[str, np.ndarray]:
    return {
        name: np.array([run["perplexities"][-1] for run in seeds]) for name, seeds in runs.items()
    }


def _fall(losses: np.ndarray) -> float:
    tenth = len(losses) // 10
    return float(losses[-tenth:].mean() / losses[:tenth].mean())


def _draw(title: str, sizes: _Sizes, runs: Runs) -> Panel:
    after = sizes.steps * np.arange(1, sizes.evaluations + 1)
    curves = {}
    for name, seeds in runs.items():
        rows = np.array([run["perplexities"] for run in seeds])
        curves[name] = (after, np.array([rows.min(0), rows.mean(0), rows.max(0)]))
    title = f"{title}: mean, range, {sizes.seeds} seeds"
    draw = bands(curves, scales=("linear", "linear"))
    return Panel(title, "step", "validation perplexity", draw)


def _describe(sizes: _Sizes, available: int, train: np.ndarray) -> str:
    steps = sizes.steps * sizes.evaluations
    read = steps * sizes.streams * sizes.length
    return (
        "Language model in the paper: AWD-LSTM (three layers, dropout, averaged iterates) on the "
        "Penn Treebank, 250 epochs, sequences of 70 words on average. Here: an LSTM of one layer "
        f"and width {sizes.width}, embedding tied to the output, without dropout and averages, on "
        f"the {sizes.vocabulary:,} most frequent words of WikiText-2 (the rest, "
        f"{np.mean(train == 0):.0%} of the text, is one word, so perplexities are lower), "
        f"{sizes.streams} streams, sequences of {sizes.length}, {steps:,} steps, which read "
        f"{read / available:.0%} of the text; perplexity on {sizes.held:,} words of the "
        "validation text. Momenta, weight decay and responses (the clip hard, the other two soft) "
        "are those of the authors' code."
    )


def _list_ends(runs: Runs, paper: dict[str, float] | None = None) -> str:
    return "; ".join(
        f"{name} {values.mean():.1f}" + (f" ({paper[name]:.1f})" if paper else "")
        for name, values in _ends(runs).items()
    )


def _list_shares(runs: Runs) -> str:
    return "; ".join(
        f"{name} {shares(_SEARCHED[name], np.concatenate([run['norms'] for run in seeds]))}"
        for name, seeds in runs.items()
        if _SEARCHED[name].max_step < math.inf
    )


def _encode(train: list[str], held: list[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers for words: 0 for all but the most frequent of the training text."""
    counts = Counter(train)
    counts.pop("<unk>", None)  # the published text has it in place of rare words
    codes = {word: place for place, (word, _) in enumerate(counts.most_common(size - 1), start=1)}
    first, second = (
        np.array([codes.get(word, 0) for word in text], np.int32) for text in (train, held)
    )
    return first, second


def _streams(codes: np.ndarray, streams: int, length: int) -> np.ndarray:
    """Sequences that follow one another in each of the streams, overlapping by a word.

    Of shape (sequences, length + 1, streams): inputs are all but the last, targets all but the
    first.
    """
    each = len(codes) // streams
    columns = codes[: each * streams].reshape(streams, each).T
    starts = np.arange(0, each - length, length)
    return columns[starts[:, None] + np.arange(length + 1)]


_evaluate = jax.jit(lstm.loss)


def _train(
    step: Step,
    settings: Settings,
    seed: int,
    train: np.ndarray,
    held: np.ndarray,
    sizes: _Sizes,
) -> dict[str, np.ndarray]:
    """Trains once; the start depends on the seed, and so does where in the text it begins."""
    rng = np.random.default_rng(seed)
    params = lstm.init(rng, sizes.vocabulary, sizes.width)
    empty = lstm.start(sizes.streams, sizes.width)
    sequences = _streams(np.roll(train, -rng.integers(len(train))), sizes.streams, sizes.length)
    validation = _streams(held, sizes.streams, sizes.length)
    point = begin(settings, params, empty)
    losses, norms, perplexities = [], [], []
    for evaluation in range(sizes.evaluations):
        places = (evaluation * sizes.steps + np.arange(sizes.steps)) % len(sequences)
        point, *measured = advance(step, settings, point, (sequences[at] for at in places))
        losses.append(measured[0])
        norms.append(measured[1])
        memory, entropies = empty, []
        for sequence in validation:
            entropy, memory = _evaluate(point.params, memory, sequence)
            entropies.append(float(entropy))
        perplexities.append(math.exp(np.mean(entropies)))
    return {
        "losses": np.concatenate(losses),
        "norms": np.concatenate(norms),
        "perplexities": np.array(perplexities),
    }
