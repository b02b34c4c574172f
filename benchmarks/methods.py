"""Measures a step of every method of the catalogue, and of optax's clips, on one tree.

Run it with `python -m benchmarks.methods`; README.md explains the columns.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import faults
from benchmarks.measure import DTYPES, compile_step, environment
from benchmarks.sweep import Point, counts_of, draw, point, probes
from benchmarks.sweep_report import BARE, COPY, READ, aligned
from benchmarks.timing import Runner, interleave
from clipax.catalogue import ENTRIES

__all__ = ["main", "measure"]

# Of optax what stands in front of an optimizer.
_SUBJECTS = r"clipax/|optax/(clip|adaptive_grad_clip|normalize)[^,]*$"
_KEYS = (
    ("traffic", "traffic P"),
    ("temporaries", "temp. P"),
    ("peak", "peak P"),
    ("reductions", "reductions"),
    ("compile_cpu_seconds", "compile CPU s"),
    ("over_limit", "/ (SGD + one read)"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark.

    Args:
      arguments: Command line; by default the process's own.

    Returns:
      The exit status: 0.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.methods", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--only", metavar="PATTERN", default="", help="library/name, a regex")
    parser.add_argument("--point", type=point, default=Point(4_000_000, 8), help="tree (4e6x8)")
    parser.add_argument("--dtype", choices=[*DTYPES], default="f32")
    parser.add_argument("--rounds", type=int, default=7, help="samples of each (7); 0: counts only")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything measured")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    rows = measure(options.point, options.dtype, options.only, rounds=options.rounds)
    settings = environment() | {
        "tree": str(options.point),
        "dtype": options.dtype,
        "rounds": str(options.rounds),
        "minutes": f"{(time.monotonic() - start) / 60:.1f}",
    }
    print(", ".join(f"{name} {value}" for name, value in settings.items()))
    lines = [["method", *(title for _, title in _KEYS)]]
    for name, row in rows.items():
        cells = (f"{row[key]:.2f}" if key in row else "" for key, _ in _KEYS)
        lines.append([name, *cells])
    print(aligned(lines))
    if options.json is not None:
        content = {"settings": settings, "rows": rows}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def measure(where: Point, dtype: str, only: str = "", *, rounds: int) -> dict[str, dict[str, Any]]:
    """Compiles each method, an optimizer alone, all else in front of SGD, and times them in turns.

    Args:
      where: The tree.
      dtype: A name in `DTYPES`.
      only: A regular expression for library/name.
      rounds: Samples of each time; 0 for counts alone.

    Returns:
      What was found by library/name; times over those of plain SGD and one read of the gradient.
    """
    jax.config.update("jax_enable_compilation_cache", False)
    params, grads = draw(where, dtype, 0, 0.1), draw(where, dtype, 1, None)
    size = sum(leaf.nbytes for leaf in params)
    made = {BARE: lambda: optax.sgd(1e-3)}
    made |= {
        name: make
        for name, make in faults.subjects().items()
        if re.match(_SUBJECTS, name) and re.search(only, name)
    }
    rows: dict[str, dict[str, Any]] = {}
    runners: dict[str, Runner] = dict(probes(grads)) if rounds else {}
    for name, make in made.items():
        print(name, file=sys.stderr, flush=True)
        method = name.split("/")[-1]
        alone = name == BARE or (name.startswith("clipax/") and _kind(method) == "optimizer")
        transformation = make() if alone else optax.chain(make(), optax.sgd(1e-3))
        step, state, _, seconds = compile_step(transformation, params, grads)
        rows[name] = counts_of(step, size) | {"compile_cpu_seconds": seconds}
        if rounds:
            runners[name] = Runner(step, jax.tree.map(jnp.copy, params), state, grads)
    if rounds:
        times = interleave(runners, rounds)
        limit: np.ndarray = times[BARE] + times[READ]
        for name in rows.keys() - {READ, COPY}:
            rows[name]["step_seconds"] = float(np.median(times[name]))
            rows[name]["over_limit"] = float(np.median(times[name] / limit))
    return rows


def _kind(method: str) -> str:
    """The kind of an entry of the catalogue; variants have their factory's."""
    for entry in ENTRIES.values():
        if method == entry.name or method in entry.variants:
            return entry.kind
    raise ValueError(f"`{method}` is in no entry of the catalogue.")


if __name__ == "__main__":
    sys.exit(main())
