"""Measures how many noisy steps a second `clipax.lab.simulate` runs, beside plain JAX and NumPy.

Run it with `python -m benchmarks.simulate`; README.md says what it is for.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import simulate_forms as forms
from benchmarks.measure import environment
from clipax.lab.noise import alpha_stable
from clipax.lab.simulate import simulate

__all__ = ["main"]

OURS, JAX, NUMPY, BOTH = "clipax", "jax.random in a scan", "NumPy, one core", "NumPy, all cores"
TARGET_RATIO, TARGET_RATE, TARGET_MEMORY = 3.0, 150e6, 2**30
DIMS = (1, 10)
MEMORY_STEPS = 10_000
Record = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark.

    Args:
      arguments: Command line; by default the process's own.

    Returns:
      The exit status: 0, or 1 where a figure is missed.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.simulate", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--runs", type=int, default=100_000, help="(default 100000)")
    parser.add_argument(
        "--steps", type=int, default=400, help="for one dimension, a tenth for ten (default 400)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of measurements (default 5)")
    parser.add_argument(
        "--no-memory", action="store_true", help=f"do not measure {MEMORY_STEPS} steps' memory"
    )
    parser.add_argument("--memory-of", type=int, metavar="STEPS", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything measured")
    options = parser.parse_args(arguments)
    if options.memory_of is not None:
        print(json.dumps(_peak(options.runs, options.memory_of)))
        return 0
    records = []
    cores = multiprocessing.cpu_count()
    # Spawned, as JAX runs threads that a fork would lose.
    with closing(multiprocessing.get_context("spawn").Pool(cores)) as pool:
        for dim in DIMS:
            steps = max(1, options.steps // dim)
            for method in forms.METHODS:
                record = _measure(method, dim, options.runs, steps, options.rounds, pool, cores)
                records.append(record)
                print(_line(record), flush=True)
    memory = None if options.no_memory else _memory(options.runs)
    verdicts = _verdicts(records, memory)
    print("\n".join(f"{'met   ' if met else 'MISSED'} {text}" for text, met in verdicts.items()))
    if options.json is not None:
        settings = environment() | {
            "numpy": np.__version__,
            "runs": str(options.runs),
            "noise": f"symmetric stable, index {forms.ALPHA}",
        }
        content = {
            "settings": settings,
            "records": records,
            "memory": memory,
            "verdicts": verdicts,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return int(not all(verdicts.values()))


def _measure(
    method: str, dim: int, runs: int, steps: int, rounds: int, pool: Any, cores: int
) -> Record:
    """Samples a second of all forms, in turn in a new order each round; the first is a warm-up."""
    share = -(-runs // cores)
    parts = [
        (method, dim, min(share, runs - first), steps, first) for first in range(0, runs, share)
    ]
    start = time.perf_counter()
    contenders: dict[str, Callable[[], Any]] = {
        OURS: forms.our_form(method, dim, runs, steps),
    }
    compile_seconds = time.perf_counter() - start
    contenders |= {
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
    rates = {name: runs * dim * steps / np.median(times) for name, times in seconds.items()}
    ours = np.array(seconds[OURS])
    ratios = {
        name: float(np.median(np.array(times) / ours))
        for name, times in seconds.items()
        if name != OURS
    }
    return {
        "method": method,
        "dim": dim,
        "steps": steps,
        "samples_per_second": rates,
        "ours_over": ratios,
        "seconds": seconds,
        "compile_seconds": compile_seconds,
        # That all forms simulate the same thing: the same up to sampling error.
        "median_suboptimality": medians,
    }


def _line(record: Record) -> str:
    rates = ", ".join(
        f"{name} {rate / 1e6:.0f}" for name, rate in record["samples_per_second"].items()
    )
    ratios = ", ".join(f"{ratio:.2f} x {name}" for name, ratio in record["ours_over"].items())
    return f"{record['method']}, d = {record['dim']}: {rates} million samples/s; clipax {ratios}"


def _memory(runs: int) -> Record:
    """Peak memory of a fresh process, and its time."""
    command = [sys.executable, "-m", "benchmarks.simulate", "--runs", str(runs), "--memory-of"]
    base = subprocess.run([*command, "0"], check=True, capture_output=True, text=True)
    full = subprocess.run([*command, str(MEMORY_STEPS)], check=True, capture_output=True, text=True)
    record = json.loads(full.stdout) | {"peak_without_steps": json.loads(base.stdout)["peak"]}
    print(
        f"{runs} runs x {MEMORY_STEPS} steps: {record['peak'] / 2**20:.0f} MiB at most "
        f"({record['peak_without_steps'] / 2**20:.0f} MiB for 0 steps), {record['seconds']:.1f} s"
    )
    return record


def _peak(runs: int, steps: int) -> Record:
    """Peak memory of this process after a simulation in one dimension."""
    start = time.perf_counter()
    record = sorted({int(steps * share / 20) for share in range(21)})
    simulate(
        {"clip_sgd": forms.our_method("clip_sgd")},
        forms.Quadratic(1),
        alpha_stable(forms.ALPHA),
        runs=runs,
        record=record,
        quantiles=[0.5, 0.999],
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    return {"steps": steps, "peak": peak * unit, "seconds": time.perf_counter() - start}


def _verdicts(records: Sequence[Record], memory: Record | None) -> dict[str, bool]:
    verdicts: dict[str, bool] = {}
    for record in records:
        name = f"{record['method']}, d = {record['dim']}"
        over, rate = record["ours_over"], record["samples_per_second"][OURS]
        verdicts |= {
            f"{name}: {over[JAX]:.2f} x {JAX}, at least {TARGET_RATIO:g}": over[JAX]
            >= TARGET_RATIO,
            f"{name}: {over[BOTH]:.2f} x {BOTH}, above 1": over[BOTH] > 1,
            f"{name}: {rate / 1e6:.0f} million samples/s, at least {TARGET_RATE / 1e6:.0f}": rate
            >= TARGET_RATE,
        }
    if memory is not None:
        peak = memory["peak"]
        verdicts[f"memory: {peak / 2**20:.0f} MiB, below {TARGET_MEMORY / 2**20:.0f}"] = (
            peak < TARGET_MEMORY
        )
    return {text: bool(met) for text, met in verdicts.items()}


if __name__ == "__main__":
    sys.exit(main())
