"""Measures how far estimates of the tail index of norms lie from the truth.

Run it with `python -m benchmarks.tail_index`; README.md says what it is for.

It reads the private histogram of `clipax.thresholds`, which has no public form: the estimators that
the library has not are to be compared on what the library's own sees.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import environment
from clipax._statistics import _histogram
from clipax._statistics._histogram import TAIL_FRACTION, HistogramState

__all__ = ["LAWS", "main"]

Numbers = np.ndarray
INDICES = (1.2, 1.5, 1.8)
LIMIT = 0.1
"""The mean absolute error on Pareto norms that the library's estimate must stay below."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark.

    Args:
      arguments: Command line; by default the process's own.

    Returns:
      The exit status: 0, or 1 where the library's estimate misses its figure.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tail_index", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--norms",
        type=int,
        nargs="+",
        default=[10_000, 1_000],
        help="in a sample (default 10000 and 1000); the figure is judged on the first",
    )
    parser.add_argument("--samples", type=int, default=200, help="of each law (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default 0)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything measured")
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="write the table")
    options = parser.parse_args(arguments)
    records = {
        str(norms): _measure(norms, options.samples, options.seed) for norms in options.norms
    }
    table = "\n\n".join(_table(one, int(norms), options.samples) for norms, one in records.items())
    print(table)
    ours = records[str(options.norms[0])][_hill_name(TAIL_FRACTION)]
    worst = max(one["error"] for name, one in ours.items() if name.startswith("Pareto"))
    print(f"\nPareto, Hill at {TAIL_FRACTION:.1%}: at most {worst:.3f}, figure {LIMIT}")
    if options.markdown is not None:
        options.markdown.write_text(table + "\n")
    if options.json is not None:
        settings = environment() | {
            "samples": str(options.samples),
            "seed": str(options.seed),
            "fraction": str(TAIL_FRACTION),
        }
        content = {"settings": settings, "records": records}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return int(worst >= LIMIT)


def _pareto(random: np.random.Generator, index: float, shape: tuple[int, ...]) -> Numbers:
    return (1 - random.random(shape)) ** (-1 / index)


def _student(random: np.random.Generator, index: float, shape: tuple[int, ...]) -> Numbers:
    return np.abs(random.standard_t(index, shape))


def _stable(random: np.random.Generator, index: float, shape: tuple[int, ...]) -> Numbers:
    """Symmetric, by Chambers, Mallows and Stuck."""
    angle = np.pi * (random.random(shape) - 0.5)
    height = random.standard_exponential(shape)
    along = np.sin(index * angle) / np.cos(angle) ** (1 / index)
    return np.abs(along * (np.cos((1 - index) * angle) / height) ** ((1 - index) / index))


LAWS = {"Pareto": _pareto, "Student-t": _student, "stable": _stable}
"""Samplers of norms with a tail index: from generator, index and shape."""


def _hill(fraction: float) -> Callable[[HistogramState], Numbers]:
    return lambda histogram: np.asarray(_histogram.tail_index(histogram, fraction), float)


def _counts(histogram: HistogramState) -> Numbers:
    return np.diff(np.asarray(histogram.cumulative, float), axis=-1, prepend=0)


def _moment(fraction: float) -> Callable[[HistogramState], Numbers]:
    """Dekkers, Einmahl and de Haan 1989, from the first two moments of the logarithmic excess."""

    def estimate(histogram: HistogramState) -> Numbers:
        counts, cumulative = _counts(histogram), np.asarray(histogram.cumulative)
        total = cumulative[..., -1:]
        begins = np.argmax(cumulative >= (1 - fraction) * total, axis=-1)
        place = np.arange(_histogram.BINS) - begins[..., None]
        weights = np.where(place > 0, counts, 0)
        excess = (place - 0.5) * _histogram.WIDTH
        first, second = (
            np.sum(weights * excess**power, axis=-1) / np.sum(weights, axis=-1) for power in (1, 2)
        )
        return 1 / np.maximum(first + 1 - 0.5 / (1 - first**2 / second), 1e-2)

    return estimate


def _spread(histogram: HistogramState) -> Numbers:
    """The variance of the logarithms of all norms, without that within the bins."""
    counts = _counts(histogram)
    logs = np.arange(_histogram.BINS) * _histogram.WIDTH
    weights = counts / counts.sum(axis=-1, keepdims=True)
    mean = np.sum(weights * logs, axis=-1, keepdims=True)
    return np.sum(weights * (logs - mean) ** 2, axis=-1) - _histogram.WIDTH**2 / 12


def _log_moments_of_stable(histogram: HistogramState) -> Numbers:
    """Var ln|X| = pi^2/6 (1/alpha^2 + 1/2) for the symmetric stable laws."""
    return 1 / np.sqrt(np.maximum(6 * _spread(histogram) / np.pi**2 - 0.5, 1e-4))


def _log_moments_of_pareto(histogram: HistogramState) -> Numbers:
    """Var ln X = 1/alpha^2 for Pareto laws."""
    return 1 / np.sqrt(_spread(histogram))


def _hill_name(fraction: float) -> str:
    return f"Hill, {fraction:.1%}"


FRACTIONS = (0.2, 0.1, 0.05, 0.025, 0.01)
ESTIMATORS = (
    {_hill_name(fraction): _hill(fraction) for fraction in FRACTIONS}
    | {f"moment, {fraction:.1%}": _moment(fraction) for fraction in FRACTIONS[:-1]}
    | {
        "log moments, stable": _log_moments_of_stable,
        "log moments, Pareto": _log_moments_of_pareto,
    }
)


def _measure(norms: int, samples: int, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Mean absolute error, bias and standard deviation, by estimator and law."""
    records: dict[str, dict[str, dict[str, float]]] = {name: {} for name in ESTIMATORS}
    histogram_of = jax.jit(_histogram.of)
    for law, sample in LAWS.items():
        for index in INDICES:
            random = np.random.default_rng([seed, *law.encode(), int(10 * index)])
            histogram = histogram_of(jnp.asarray(sample(random, index, (samples, norms)), float))
            for name, estimate in ESTIMATORS.items():
                found = estimate(histogram)
                records[name][f"{law} {index}"] = {
                    "error": float(np.mean(np.abs(found - index))),
                    "bias": float(np.mean(found) - index),
                    "deviation": float(np.std(found)),
                }
    return records


def _table(records: dict[str, dict[str, dict[str, float]]], norms: int, samples: int) -> str:
    """Mean absolute errors as a table, biases behind them in brackets."""
    laws = list(next(iter(records.values())))
    lines = [
        f"Mean absolute error of the tail index (bias) from {norms:,} norms, {samples} samples.",
        "",
        f"| estimator | {' | '.join(laws)} | mean |",
        f"| --- |{' --- |' * (len(laws) + 1)}",
    ]
    for name, one in records.items():
        cells = [f"{one[law]['error']:.3f} ({one[law]['bias']:+.2f})" for law in laws]
        mean = math.fsum(one[law]["error"] for law in laws) / len(laws)
        lines.append(f"| {name} | {' | '.join(cells)} | {mean:.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
