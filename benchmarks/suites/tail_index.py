"""Measures how far estimates of the tail index of norms lie from the truth."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.harness import records
from benchmarks.harness.records import Column, Finding, Row
from benchmarks.harness.suite import Suite, count
from clipax.diagnostics import tail_index

Numbers = np.ndarray
INDICES = (1.2, 1.5, 1.8)
OURS, LIMIT = "Hill, 5.0%", 0.1
"""The library's default, and the mean absolute error on 10,000 Pareto norms it must stay below."""


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


def _moment(norms: Numbers, fraction: float) -> Numbers:
    """Dekkers, Einmahl and de Haan 1989, from the first two moments of the logarithmic excess."""
    logs = np.sort(np.log(norms), axis=-1)
    begin = logs.shape[-1] - round(fraction * logs.shape[-1]) - 1
    excess = logs[..., begin + 1 :] - logs[..., begin : begin + 1]
    first, second = np.mean(excess, axis=-1), np.mean(excess**2, axis=-1)
    return 1 / np.maximum(first + 1 - 0.5 / (1 - first**2 / second), 1e-2)


def _log_moments_of_stable(norms: Numbers) -> Numbers:
    """Var ln|X| = pi^2/6 (1/alpha^2 + 1/2) for the symmetric stable laws."""
    return 1 / np.sqrt(np.maximum(6 * np.var(np.log(norms), axis=-1) / np.pi**2 - 0.5, 1e-4))


def _log_moments_of_pareto(norms: Numbers) -> Numbers:
    """Var ln X = 1/alpha^2 for Pareto laws."""
    return 1 / np.std(np.log(norms), axis=-1)


FRACTIONS = (0.2, 0.1, 0.05, 0.025, 0.01)
ESTIMATORS: dict[str, Callable[..., Any]] = {
    **{f"Hill, {share:.1%}": partial(tail_index, fraction=share) for share in FRACTIONS},
    **{f"moment, {share:.1%}": partial(_moment, fraction=share) for share in FRACTIONS[:-1]},
    "log moments, stable": _log_moments_of_stable,
    "log moments, Pareto": _log_moments_of_pareto,
}


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Estimates from samples of each law: mean absolute errors, and biases in brackets."""
    for norms in options.norms:
        rows: dict[str, Row] = {name: {"norms": norms, "estimator": name} for name in ESTIMATORS}
        errors: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
        for law, sample in LAWS.items():
            for index in INDICES:
                random = np.random.default_rng([0, *law.encode(), int(10 * index)])
                drawn = sample(random, index, (options.samples, norms))
                for name, estimate in ESTIMATORS.items():
                    found = np.asarray(estimate(drawn), float)
                    error, bias = np.mean(np.abs(found - index)), np.mean(found) - index
                    errors[name].append(float(error))
                    rows[name][f"{law} {index}"] = f"{error:.3f} ({bias:+.2f})"
        for name, row in rows.items():  # the Pareto laws come first
            row |= {
                "pareto": max(errors[name][: len(INDICES)]),
                "mean": float(np.mean(errors[name])),
            }
        yield list(rows.values())


def judge(rows: Sequence[Row], device: str) -> Iterator[Finding]:
    """Judges the library's estimate on the largest samples."""
    for row in rows:
        if row["estimator"] == OURS and row["norms"] == max(one["norms"] for one in rows):
            where = f"{OURS}, {row['norms']:,} Pareto norms of any index"
            yield records.judge("mean absolute error", where, row["pareto"], LIMIT)


def add_options(add: Any) -> None:
    """Adds the command's options."""
    about = "in a sample; default 10000 1000; judged on the most"
    add("--norms", nargs="+", type=count, default=(10_000, 1_000), help=about)
    add("--samples", type=count, default=200, help="of each law; default 200")


SUITE = Suite(
    "mean absolute error (and bias) of estimates of the tail index of norms",
    ("norms",),
    (
        Column("estimator", "estimator"),
        *(Column(f"{law} {index}", f"{law} {index}") for law in LAWS for index in INDICES),
        Column("mean", "mean", "{:.3f}"),
    ),
    measure,
    judge,
    add_options,
    prepare=lambda options: {"samples": str(options.samples)},
)
