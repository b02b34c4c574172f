"""Measures how many noisy steps a second `clipax.lab.simulate` runs, beside plain JAX and NumPy."""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np

from benchmarks import internals
from benchmarks.command import count
from benchmarks.harness import records
from benchmarks.harness.records import Column, Finding, Row
from benchmarks.harness.suite import Option, Suite
from benchmarks.suites import simulate_forms as forms
from clipax.lab.noise import alpha_stable

OURS, JAX, NUMPY, BOTH = "clipax", "jax.random in a scan", "NumPy, one core", "NumPy, all cores"
LIMIT_RATIO, LIMIT_RATE, LIMIT_MEMORY = 3.0, 150e6, 2**30
DIMS, MEMORY_STEPS = (1, 10), 10_000


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Times both methods in one dimension and in ten, then measures memory in a process of its own.

    Processes are spawned, as JAX runs threads that a fork would lose.
    """
    spawn = multiprocessing.get_context("spawn")
    with closing(spawn.Pool(multiprocessing.cpu_count())) as pool:
        for dim in DIMS:
            steps = max(1, options.steps // dim)
            for method in forms.METHODS:
                yield _measure(method, dim, options.runs, steps, options.rounds, pool)
    if not options.no_memory:
        rows: list[Row] = []
        for steps in (0, MEMORY_STEPS):
            with ProcessPoolExecutor(1, mp_context=spawn) as fresh:
                found = fresh.submit(_simulate, options.runs, steps).result()
            where = {"method": "clip_sgd", "dim": 1, "steps": "memory"}
            rows.append({**where, "form": f"{steps} steps", **found})
        yield rows


def _measure(method: str, dim: int, runs: int, steps: int, rounds: int, pool: Any) -> list[Row]:
    """Samples a second of all forms, in turn in a new order each round; the first is a warm-up."""
    share = -(-runs // multiprocessing.cpu_count())
    parts = [
        (method, dim, min(share, runs - first), steps, first) for first in range(0, runs, share)
    ]
    contenders: dict[str, Callable[[], Any]] = {
        OURS: forms.our_form(method, dim, runs, steps),
        JAX: forms.jax_form(method, dim, runs, steps),
        NUMPY: partial(forms.numpy_form, method, dim, runs, steps),
        BOTH: partial(pool.starmap, forms.numpy_form, parts),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    medians = {}
    order = random.Random(0)
    for number in range(rounds + 1):
        for name in order.sample(list(contenders), len(contenders)):
            start = time.perf_counter()
            found = contenders[name]()
            if number:
                seconds[name].append(time.perf_counter() - start)
            found = np.concatenate(found) if isinstance(found, list) else found
            medians[name] = float(np.nanmedian(found))
    return [
        {
            "method": method,
            "dim": dim,
            "steps": steps,
            "form": name,
            "samples_per_second": float(runs * dim * steps / np.median(times)),
            "over_clipax": float(np.median(np.array(times) / seconds[OURS])),
            # That all forms simulate the same thing: the same up to sampling error.
            "median_suboptimality": medians[name],
        }
        for name, times in seconds.items()
    ]


def _simulate(runs: int, steps: int) -> dict[str, float]:
    """Time and peak memory of this process after a simulation in one dimension."""
    start = time.perf_counter()
    internals.simulate(
        {"clip_sgd": forms.our_method("clip_sgd")},
        forms.make_quadratic(1),
        alpha_stable(forms.ALPHA),
        runs=runs,
        record=sorted({int(steps * share / 20) for share in range(21)}),
        quantiles=[0.5, 0.999],
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": time.perf_counter() - start, "peak_mebibytes": peak * unit / 2**20}


def judge(rows: Sequence[Row], device: str) -> Iterator[Finding]:
    """Judges speed beside the other forms, samples a second, and memory."""
    for row in rows:
        where = f"{row['method']}, d = {row['dim']}"
        if row["steps"] == "memory":
            if row["form"] != "0 steps":
                limit = LIMIT_MEMORY / 2**20
                yield records.judge("peak memory, MiB", where, row["peak_mebibytes"], limit)
            continue
        figures = {
            JAX: (f"time of {JAX} / clipax's, at least", "over_clipax", LIMIT_RATIO),
            BOTH: (f"time of {BOTH} / clipax's, at least", "over_clipax", 1.0),
            OURS: ("samples a second, at least", "samples_per_second", LIMIT_RATE),
        }
        if row["form"] in figures:
            figure, key, limit = figures[row["form"]]
            yield records.judge(figure, where, row[key], limit, at_least=True)


SUITE = Suite(
    "how many noisy steps a second `clipax.lab.simulate` runs",
    ("method", "dim", "steps"),
    (
        Column("form", "form"),
        Column("million samples/s", "samples_per_second", "{:.1f}", 1e-6),
        Column("time / clipax's", "over_clipax", "{:.2f}"),
        Column("median suboptimality", "median_suboptimality", "{:.4g}"),
        Column("s", "seconds", "{:.1f}"),
        Column("peak MiB", "peak_mebibytes", "{:.0f}"),
    ),
    measure,
    judge,
    (
        Option("--runs", "at once", 100_000, count),
        Option("--steps", "in one dimension, a tenth in ten", 400, count),
        Option("--no-memory", f"do not measure {MEMORY_STEPS} steps' memory", False),
    ),
    rounds=5,
    prepare=lambda options: {
        "numpy": np.__version__,
        "runs": str(options.runs),
        "noise": f"symmetric stable, index {forms.ALPHA}",
    },
)
