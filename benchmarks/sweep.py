"""Measures what a clipped step costs for trees of any size, beside the least it can.

Run it with `python -m benchmarks.sweep`; README.md explains the columns.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax
from benchmarks import hlo, sweep_files, sweep_memory, sweep_report, torch_steps
from benchmarks.measure import DTYPES, compile_step, environment
from benchmarks.sweep_report import BARE, COPY, OPTAX, OURS, READ, TWIN, Row, short
from benchmarks.timing import Runner, interleave

__all__ = [
    "POINTS",
    "PROGRAMS",
    "Point",
    "counts_of",
    "draw",
    "main",
    "measure",
    "point",
    "probes",
]


class Point(NamedTuple):
    """A tree: so many entries, in so many leaves."""

    entries: int
    leaves: int

    def __str__(self) -> str:
        return f"{short(self.entries)}x{self.leaves}"

    def shapes(self) -> list[tuple[int, ...]]:
        """Leaves of four sizes in turn; matrices of 8 columns where there is more than one."""
        if self.leaves == 1:
            return [(self.entries,)]
        unit = self.entries / self.leaves / 8
        return [(max(1, round(unit * (0.4, 0.8, 1.2, 1.6)[i % 4])), 8) for i in range(self.leaves)]


POINTS = tuple(
    [Point(10**power, 1) for power in range(4, 10)]
    + [Point(10**6, 150), Point(10**7, 150), Point(10**6, 2000), Point(10**6, 4000)]
)
"""Where all runs; those that do not fit into memory are left out."""

# Thousands of leaves compile for minutes: there only what has a figure to reach, unless asked for.
_MANY, _MOST = 1000, 4000

OPTIMIZERS: Mapping[str, tuple[Callable[..., Any], int, int]] = {
    "sgd": (lambda: optax.sgd(1e-3), 3, 1),
    "adam": (lambda: optax.adam(1e-3), 7, 3),
}
"""How to make it, what it moves at least (in P, unclipped), and P of parameters and state."""

PROGRAMS = (BARE, OPTAX, OURS, TWIN, *torch_steps.PROGRAMS)
"""What can be chosen; `_ALWAYS` and the probes run in any case."""
_ALWAYS = (BARE, OURS)

Make = Callable[[], optax.GradientTransformation]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark.

    Args:
      arguments: Command line; by default the process's own.

    Returns:
      The exit status: 0, or 1 where a figure is missed.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--points",
        nargs="+",
        type=point,
        metavar="ENTRIESxLEAVES",
        default=POINTS,
        help=f"trees, such as 1e6x4000; default: {' '.join(map(str, POINTS))}",
    )
    parser.add_argument(
        "--dtypes", nargs="+", choices=[*DTYPES], help="default: all; f32 for 1,000 leaves and more"
    )
    parser.add_argument(
        "--optimizers",
        nargs="+",
        choices=[*OPTIMIZERS],
        help="default: all; sgd for 4,000 leaves and more",
    )
    parser.add_argument(
        "--programs",
        nargs="+",
        choices=PROGRAMS,
        default=PROGRAMS,
        help=f"beside {' and '.join(_ALWAYS)}; default: all; fewer need less memory",
    )
    parser.add_argument("--rounds", type=int, default=11, help="samples of each program (11)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything measured")
    parser.add_argument(
        "--merge",
        action="store_true",
        help="keep what --json PATH holds of other trees, dtypes and optimizers",
    )
    parser.add_argument("--picture", type=Path, metavar="PATH", help="draw it; needs matplotlib")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    jax.config.update("jax_enable_compilation_cache", False)
    jax.jit(lambda x: x + 1).lower(1.0).compile()  # the compiler's own start is no one's cost
    start, rows = time.monotonic(), list[Row]()
    programs = {*options.programs, *_ALWAYS}
    settings = environment() | torch_steps.versions()
    settings["rounds"] = str(options.rounds)
    try:  # now, not after an hour
        content = sweep_files.before(options.json, merge=options.merge)
        sweep_files.merged(content, settings, rows)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    old = content
    for where, dtype, optimizer in _jobs(options):
        text = f"{where} {dtype} {optimizer}"
        size = where.entries * jnp.dtype(DTYPES[dtype]).itemsize
        needs = sweep_memory.needed(size, OPTIMIZERS[optimizer][2], programs)
        if not sweep_memory.fits(needs):
            print(f"{text}: left out, {needs / 1e9:.1f} GB are too much here", file=sys.stderr)
            continue
        print(f"{time.monotonic() - start:4.0f} s  {text}", file=sys.stderr, flush=True)
        rows += measure(where, dtype, optimizer, rounds=options.rounds, programs=programs)
        settings["minutes"] = f"{(time.monotonic() - start) / 60:.1f}"
        content = sweep_files.merged(old, settings, rows)
        if options.json is not None:  # after each tree: who stops it keeps what there is
            sweep_files.write(options.json, content)
    print(sweep_report.render(rows, settings), end="")
    if options.picture is not None:
        sweep_report.draw(content.rows, content.runs, options.picture)
    findings = sweep_report.judge(rows, settings["device"])
    return int(any(one.verdict == sweep_report.MISSED for one in findings))


def _jobs(options: argparse.Namespace) -> Iterator[tuple[Point, str, str]]:
    for where in options.points:
        for dtype in options.dtypes or (["f32"] if where.leaves >= _MANY else DTYPES):
            for optimizer in options.optimizers or (
                ["sgd"] if where.leaves >= _MOST else OPTIMIZERS
            ):
                yield where, dtype, optimizer


def point(text: str) -> Point:
    """Reads `1e6x150`."""
    if not re.fullmatch(r"\d+(\.\d+)?(e\d+)?x\d+", text):
        raise argparse.ArgumentTypeError(f"must be like 1e6x150, got {text!r}")
    entries, leaves = text.split("x")
    if not 1 <= int(leaves) <= float(entries) / 8 and int(leaves) != 1:
        raise argparse.ArgumentTypeError(f"needs 8 entries a leaf at least, got {text!r}")
    return Point(int(float(entries)), int(leaves))


def measure(
    where: Point,
    dtype: str,
    optimizer: str,
    *,
    rounds: int,
    programs: Collection[str] = PROGRAMS,
) -> list[Row]:
    """Compiles and times an optimizer's step with and without a clip on one tree.

    Args:
      where: The tree.
      dtype: A name in `DTYPES`.
      optimizer: A name in `OPTIMIZERS`.
      rounds: Samples of each program's time.
      programs: Names in `PROGRAMS`, those of the plain and of clipax's step among them.

    Returns:
      A row for each program, without the ratios to those that are not among them.
    """
    factory, least, _ = OPTIMIZERS[optimizer]
    params, grads = draw(where, dtype, 0, 0.1), draw(where, dtype, 1, None)
    size = hlo.tree_bytes(params)
    made: dict[str, Make] = {
        BARE: factory,
        OPTAX: lambda: optax.chain(optax.clip_by_global_norm(1.0), factory()),
        OURS: lambda: optax.chain(clipax.clip_by_global_norm(1.0), factory()),
    }
    runners: dict[str, Any] = {}
    counts: dict[str, dict[str, float]] = {}
    for name, make in made.items():
        if name not in programs:
            continue
        step, state, _, seconds = compile_step(make(), params, grads)
        counts[name] = counts_of(step, size) | {"compile_cpu_seconds": seconds}
        runners[name] = Runner(step, jax.tree.map(jnp.copy, params), state, grads)
        if name == OURS and TWIN in programs:  # the same program in memory of its own: the control
            own, kept = jax.tree.map(jnp.copy, (params, state))
            runners[TWIN], counts[TWIN] = Runner(step, own, kept, grads), counts[name]
    for name, one in probes(grads).items():
        runners[name] = one
    chosen = [name for name in torch_steps.PROGRAMS if name in programs]
    runners |= torch_steps.runners(
        chosen, optimizer, dtype, where.shapes(), jax.devices()[0].platform
    )
    times = interleave(runners, rounds)
    limit: np.ndarray = times[BARE] + times[READ]
    peers = {"over_unclipped": BARE, "over_optax": OPTAX, "over_clipax": OURS}
    copied = 2 * size / float(np.median(times[COPY]))
    rows = []
    for name, taken in times.items():
        clipped = name not in (BARE, READ, COPY)
        minimum = {READ: 1, COPY: 2}.get(name, least + clipped)
        rate = minimum * size / float(np.median(taken))
        rows.append(
            {
                "entries": where.entries,
                "leaves": where.leaves,
                "dtype": dtype,
                "optimizer": optimizer,
                "program": name,
                "minimum": minimum,
                **counts.get(name, {}),
                "step_seconds": float(np.median(taken)),
                "over_limit": float(np.median(taken / limit)),
                **{
                    key: float(np.median(taken / times[peer]))
                    for key, peer in peers.items()
                    if peer in times
                },
                "bytes_per_second": rate,
                "share_of_copy": rate / copied,
            }
        )
    return rows


def draw(where: Point, dtype: str, seed: int, size: float | None) -> list[jax.Array]:
    """Normal entries, repeated beyond a million; gradients have norm 4: a clip at 1 acts."""
    scale = 4 / where.entries**0.5 if size is None else size
    base = np.random.default_rng(seed).standard_normal(2**20, dtype=np.float32) * scale
    return [jnp.asarray(np.resize(base, shape), DTYPES[dtype]) for shape in where.shapes()]


def counts_of(step: Any, size: int) -> dict[str, float]:
    """What does not depend on the machine's load; memory in P."""
    found, memory = hlo.count(step), step.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    held += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    return {
        "traffic": found.bytes_accessed / size,
        "temporaries": found.temporaries / size,
        "peak": held / size,
        "reductions": found.reductions,
        "collectives": found.collectives,
    }


def probes(grads: Any) -> dict[str, Runner]:
    """One read of the gradient, and a copy of it from the device to itself."""

    def read(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        parts = [jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in grads]
        return params, jnp.sum(jax.lax.optimization_barrier(jnp.stack(parts)))

    def copy(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        return params, jax.tree.map(jnp.copy, grads)

    states = {READ: jnp.zeros(()), COPY: jax.tree.map(jnp.copy, grads)}
    runners = {}
    for name, function in ((READ, read), (COPY, copy)):
        jitted = jax.jit(function, donate_argnums=1, keep_unused=True)
        step = jitted.lower((), states[name], grads).compile()
        runners[name] = Runner(step, (), states[name], grads)
    return runners


if __name__ == "__main__":
    sys.exit(main())
