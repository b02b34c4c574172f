"""Measures what it takes to compile a clip of every leaf by itself, against one of the global norm.

Run it with `python -m benchmarks.scopes`; README.md says what it is for.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax
from benchmarks import trees
from benchmarks.measure import environment
from clipax import norms, thresholds

__all__ = ["main"]

GLOBAL, LEAF, PEER = "global, a constant", "leaf, a constant", "optax, a constant"
LIMIT = 1.5

Make = Callable[[], optax.GradientTransformation]


def _leaf(threshold: Any) -> optax.GradientTransformation:
    return clipax.scale_by_norm(norms.clip(threshold), scope="leaf")


WITHOUT_MEMORY: Mapping[str, Make] = {
    LEAF: lambda: clipax.clip_by_leaf_norm(1.0),
    "leaf, a schedule": lambda: _leaf(thresholds.power(1.0, 1.5)),
    "leaf, per entry": lambda: _leaf(thresholds.block_rms(1.0)),
    "leaf, relative": lambda: _leaf(thresholds.relative(0.01)),
}
WITH_MEMORY: Mapping[str, Make] = {
    "leaf, ema": lambda: _leaf(thresholds.ema()),
    "leaf, zscore": lambda: _leaf(thresholds.zscore()),
    "leaf, quantile": lambda: _leaf(thresholds.quantile(0.9)),
}
BASE: Mapping[str, Make] = {
    GLOBAL: lambda: clipax.clip_by_global_norm(1.0),
    PEER: lambda: optax.clip_by_global_norm(1.0),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark.

    Args:
      arguments: Command line; by default the process's own.

    Returns:
      The exit status: 0, or 1 where a threshold without memory takes too long to compile.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scopes", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--leaves", type=int, default=2000, help="leaves of the tree (2000)")
    parser.add_argument("--rounds", type=int, default=3, help="times each is compiled (3)")
    parser.add_argument("--memory", action="store_true", help="thresholds with memory too: slow")
    parser.add_argument("--peer", action="store_true", help="optax's clip of the global norm too")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything measured")
    options = parser.parse_args(arguments)
    made = {GLOBAL: BASE[GLOBAL], **WITHOUT_MEMORY}
    made |= WITH_MEMORY if options.memory else {}
    made |= {PEER: BASE[PEER]} if options.peer else {}
    records = _measure(made, options.leaves, options.rounds)
    print(f"{options.leaves} leaves, clip and SGD; medians of {options.rounds}, CPU seconds")
    print(f"{'clip':22} {'trace':>7} {'compile':>8} {'both':>7} {'/ global':>9}")
    for name, one in records.items():
        print(
            f"{name:22} {one['trace']:7.2f} {one['compile']:8.2f} "
            f"{one['trace'] + one['compile']:7.2f} {one['ratio']:9.2f}"
        )
    slow = [name for name in WITHOUT_MEMORY if records[name]["ratio"] > LIMIT]
    print(f"at most {LIMIT:g} without memory: {'no: ' + ', '.join(slow) if slow else 'all'}")
    if options.json is not None:
        settings = environment() | {
            "leaves": str(options.leaves),
            "rounds": str(options.rounds),
        }
        content = {"settings": settings, "records": records}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return 1 if slow else 0


def _measure(made: Mapping[str, Make], leaves: int, rounds: int) -> dict[str, dict[str, float]]:
    """Each clip's seconds of the processor, in turns."""
    jax.config.update("jax_enable_compilation_cache", False)
    jax.jit(lambda x: x + 1).lower(1.0).compile()  # the compiler's own start is no one's cost
    params = trees.parameters("many", jnp.float32, scale=leaves / 2000)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in made}
    for _ in range(rounds):
        for name, make in made.items():
            times[name].append(_compile(optax.chain(make(), optax.sgd(1e-3)), params))
    records = {}
    for name, pairs in times.items():
        totals, base = np.sum(pairs, axis=1), np.sum(times[GLOBAL], axis=1)
        trace, compiling = np.median(pairs, axis=0)
        records[name] = {
            "trace": float(trace),
            "compile": float(compiling),
            # Within rounds, in which the machine's load is most alike.
            "ratio": float(np.median(totals / base)),
        }
    return records


def _compile(optimizer: optax.GradientTransformation, params: Any) -> tuple[float, float]:
    """Seconds to trace and lower, and to compile: of the processor, not of the clock."""

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    start = time.process_time()
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params)
    middle = time.process_time()
    lowered.compile()
    return middle - start, time.process_time() - middle


if __name__ == "__main__":
    sys.exit(main())
