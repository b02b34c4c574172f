"""Measures how many noisy steps a second `clipax.lab.simulate` runs, beside plain JAX and NumPy.

All clip stochastic gradients of |x|^2 / 2 with symmetric alpha-stable noise, from the vector of
ones, and give the suboptimality of the last iterate of each run. Those beside clipax are written
out by hand, without guards and telemetry: as fast as they are straightforward. Ours is made of
private parts of `clipax.lab.simulate`, as the function itself compiles its program and sorts out
quantiles at every call, which the other forms do not.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import clipax
from benchmarks.harness import records
from benchmarks.harness.records import Column, Finding, Row
from benchmarks.harness.suite import Suite, count
from clipax.lab import noise, problems, simulate
from clipax.lab._simulate.chunks import compile_tile, run_chunks, tile_width
from clipax.lab._simulate.program import BLOCK, tile_program
from clipax.lab._simulate.words import step_keys

ALPHA, RATE, THRESHOLD = 1.5, 0.05, 2.0
NUMPY_FLOATS = 10_240
"""Numbers in an array of NumPy's form: as many as ours, so that it stays in the cache too."""
OURS, JAX, NUMPY = "clipax", "jax.random in a scan", "NumPy, all cores"
MEMORY_STEPS = 10_000
SPAWN = multiprocessing.get_context("spawn")
"""JAX runs threads, which a fork would lose."""


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Times clipped SGD in one dimension and in ten, then measures memory in a fresh process."""
    with closing(SPAWN.Pool(multiprocessing.cpu_count())) as pool:
        for dim in (1, 10):
            steps = max(1, options.steps // dim)
            yield _measure(dim, options.runs, steps, options.rounds, pool)
    if not options.no_memory:
        with ProcessPoolExecutor(1, mp_context=SPAWN) as fresh:
            found = fresh.submit(_simulate, options.runs, MEMORY_STEPS).result()
        yield [{"dim": 1, "steps": "memory", "form": f"{MEMORY_STEPS} steps", **found}]


def _measure(dim: int, runs: int, steps: int, rounds: int, pool: Any) -> list[Row]:
    """Samples a second of all forms, in turn in a new order each round; the first is a warm-up."""
    share = -(-runs // multiprocessing.cpu_count())
    parts = [(dim, min(share, runs - one), steps, one) for one in range(0, runs, share)]
    forms: dict[str, Callable[[], Any]] = {
        OURS: _make_ours(dim, runs, steps),
        JAX: _make_scan(dim, runs, steps),
        NUMPY: lambda: np.concatenate(pool.starmap(run_numpy, parts)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    medians = {}
    order = random.Random(0)
    for number in range(rounds + 1):
        for name in order.sample(list(forms), len(forms)):
            start = time.perf_counter()
            medians[name] = float(np.nanmedian(forms[name]()))
            if number:
                seconds[name].append(time.perf_counter() - start)
    where = {"dim": dim, "steps": steps}
    return [
        where
        | {
            "form": name,
            "samples_per_second": float(runs * dim * steps / np.median(times)),
            "over_clipax": float(np.median(np.array(times) / seconds[OURS])),
            # That all forms simulate the same thing: the same up to sampling error.
            "median_suboptimality": medians[name],
        }
        for name, times in seconds.items()
    ]


def _make_problem(dim: int) -> problems.Problem:
    ones, half = jnp.ones(dim), lambda x: 0.5 * jnp.sum(x**2)
    return problems.Problem("quadratic", ones, half, lambda x: x, optimum_value=0.0)


def _make_ours(dim: int, runs: int, steps: int) -> Callable[[], np.ndarray]:
    """Makes what `clipax.lab.simulate` runs, compiled; without compilation and quantiles."""
    problem, width = _make_problem(dim), tile_width(dim)
    optimizer, law = clipax.clip_sgd(RATE, THRESHOLD), noise.alpha_stable(ALPHA)
    settings: Any = {"width": width, "average": False, "points": {}, "count": 1}
    program = tile_program(lambda _: optimizer, problem, law, problem.value, **settings)
    keys = step_keys(np.uint32(0), steps + BLOCK)
    tile = compile_tile(program, keys, jnp.array([[0, steps]], jnp.int32), {})
    settings = {"runs": runs, "width": width, "chunk": 1, "advance": lambda done, total: None}
    return lambda: run_chunks(tile, (1, 1), **settings)[0, 0]


def _make_scan(dim: int, runs: int, steps: int) -> Callable[[], np.ndarray]:
    """Makes a scan over steps of all runs at once, with noise from `jax.random`."""

    def step(x: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        first, second = jax.random.split(key)
        angle = jax.random.uniform(first, (runs, dim), minval=-math.pi / 2, maxval=math.pi / 2)
        height = jax.random.exponential(second, (runs, dim))
        return _advance(jnp, 1, x, angle, height), None

    @jax.jit
    def whole(key: jax.Array) -> jax.Array:
        x, _ = jax.lax.scan(step, jnp.ones((runs, dim)), jax.random.split(key, steps))
        return 0.5 * jnp.sum(x**2, axis=1)

    return lambda: np.asarray(whole(jax.random.key(0)))


def run_numpy(dim: int, runs: int, steps: int, seed: int) -> np.ndarray:
    """Runs NumPy on one core, vectorised over as many runs as stay in the cache, in float32."""
    draw = np.random.default_rng(seed)
    size, found = max(1, NUMPY_FLOATS // dim), []
    # The textbook form divides by zero where float32 rounds the angle to the end of its range.
    with np.errstate(all="ignore"):
        for first in range(0, runs, size):
            shape = (dim, min(size, runs - first))
            x = np.ones(shape, np.float32)
            for _ in range(steps):
                angle = np.float32(math.pi) * (draw.random(shape, np.float32) - np.float32(0.5))
                height = draw.standard_exponential(shape, np.float32)
                x = _advance(np, 0, x, angle, height)
            found.append(np.float32(0.5) * np.sum(x**2, axis=0))
    return np.concatenate(found)


def _advance(xp: Any, axis: int, x: Any, angle: Any, height: Any) -> Any:
    """A step of many runs, their dimensions along `axis`; noise by Chambers, Mallows and Stuck."""
    along = xp.sin(ALPHA * angle) / xp.cos(angle) ** (1 / ALPHA)
    gradient = x + along * (xp.cos((1 - ALPHA) * angle) / height) ** ((1 - ALPHA) / ALPHA)
    norm = xp.sqrt(xp.sum(gradient**2, axis=axis, keepdims=True))
    return x - RATE * gradient * xp.minimum(1, THRESHOLD / norm)


def _simulate(runs: int, steps: int) -> dict[str, float]:
    """Peak memory of this process after a simulation in one dimension."""
    methods = {"clip_sgd": clipax.clip_sgd(RATE, THRESHOLD)}
    record = [int(steps * share / 20) for share in range(21)]
    law = noise.alpha_stable(ALPHA)
    simulate(methods, _make_problem(1), law, runs=runs, record=record, quantiles=[0.5, 0.999])
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    return {"peak_mebibytes": peak}


def judge(rows: Sequence[Row], device: str) -> Iterator[Finding]:
    """Judges speed beside the other forms, samples a second, and memory."""
    figures = {
        JAX: (f"time of {JAX} / clipax's, at least", "over_clipax", 3.0),
        NUMPY: (f"time of {NUMPY} / clipax's, at least", "over_clipax", 1.0),
        OURS: ("samples a second, at least", "samples_per_second", 150e6),
        f"{MEMORY_STEPS} steps": ("peak memory, MiB", "peak_mebibytes", 1024),
    }
    for row in rows:
        figure, key, limit = figures[row["form"]]
        least = key != "peak_mebibytes"
        yield records.judge(figure, f"d = {row['dim']}", row[key], limit, at_least=least)


def add_options(add: Any) -> None:
    """Adds the command's options."""
    add("--runs", type=count, default=100_000, help="at once; default 100000")
    add("--steps", type=count, default=400, help="in one dimension, a tenth in ten; default 400")
    add("--no-memory", action="store_true", help=f"do not measure {MEMORY_STEPS} steps' memory")


SUITE = Suite(
    "how many noisy steps a second `clipax.lab.simulate` runs",
    ("dim", "steps"),
    (
        Column("form", "form"),
        Column("million samples/s", "samples_per_second", "{:.1f}", 1e-6),
        Column("time / clipax's", "over_clipax", "{:.2f}"),
        Column("median suboptimality", "median_suboptimality", "{:.4g}"),
        Column("peak MiB", "peak_mebibytes", "{:.0f}"),
    ),
    measure,
    judge,
    add_options,
    rounds=5,
    prepare=lambda options: {"numpy": np.__version__, "runs": str(options.runs)},
)
