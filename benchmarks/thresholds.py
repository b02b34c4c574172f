"""Measures what a threshold takes by itself: its jitted update on the norm of one block.

Run it with `python -m benchmarks.thresholds`; README.md says what it is for.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import environment
from benchmarks.timing import Runner, interleave, median_ratio
from clipax import thresholds
from clipax.catalogue import ENTRIES

__all__ = ["main"]

CONSTANT = "a constant"
LIMIT_SECONDS = 1e-3


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark.

    Args:
      arguments: Command line; by default the process's own.

    Returns:
      The exit status: 0, or 1 where a threshold takes longer than a millisecond.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.thresholds", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--window", type=int, default=1000, help="norms kept (default 1000)")
    parser.add_argument("--rounds", type=int, default=21, help="samples of each (default 21)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything measured")
    options = parser.parse_args(arguments)
    records = _measure(options.window, options.rounds)
    print(f"window {options.window}, {options.rounds} rounds; again: a second copy, the control")
    print(f"{'threshold':32} {'us':>7} {'again':>7} {'again / first (10-90 %)':>25}")
    for name, one in records.items():
        spread = f"{one['ratio']:.2f} ({one['low']:.2f}-{one['high']:.2f})"
        print(f"{name:32} {one['microseconds']:7.1f} {one['again']:7.1f} {spread:>25}")
    slow = [name for name, one in records.items() if one["microseconds"] > 1e6 * LIMIT_SECONDS]
    print(f"under {1e3 * LIMIT_SECONDS:g} ms: {'no: ' + ', '.join(slow) if slow else 'all'}")
    if options.json is not None:
        settings = environment() | {
            "window": str(options.window),
            "rounds": str(options.rounds),
        }
        content = {"settings": settings, "records": records}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return 1 if slow else 0


def _measure(window: int, rounds: int) -> dict[str, dict[str, float]]:
    """Each threshold's times, interleaved, in microseconds."""
    made: dict[str, Any] = {CONSTANT: 1.0}
    for name, entry in ENTRIES.items():
        if entry.kind == "threshold":
            remembers = "window" in inspect.signature(entry.factory).parameters
            given = {"window": window} if remembers else {}
            made[name] = entry.factory(**{**entry.example, **given})
    runners = {
        f"{name} {copy}": _runner(thresholds.as_threshold(value))
        for name, value in made.items()
        for copy in ("first", "again")
    }
    times = interleave(runners, rounds)
    records = {}
    for name in made:
        first, again = times[f"{name} first"], times[f"{name} again"]
        ratio = median_ratio(again, first)
        records[name] = {
            "microseconds": 1e6 * float(np.median(first)),
            "again": 1e6 * float(np.median(again)),
            "ratio": ratio.median,
            "low": ratio.low,
            "high": ratio.high,
        }
    return records


def _runner(threshold: thresholds.Threshold) -> Runner:
    """A loop that hands the threshold one norm after the other; its step count is no part of it."""

    def step(now: Any, state: Any, norm: Any) -> tuple[Any, Any]:
        context = thresholds.Context(jnp.int32(1000), param_norms=norm, total_norm=norm)
        return threshold.update(norm, state, context)

    compiled = jax.jit(step, donate_argnums=(0, 1), keep_unused=True)
    return Runner(compiled, jnp.zeros(()), threshold.init(()), jnp.float32(1.0))


if __name__ == "__main__":
    sys.exit(main())
