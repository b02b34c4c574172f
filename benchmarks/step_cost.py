"""Measures what a training step costs with clipax, beside optax.

Run it with `python -m benchmarks.step_cost`; README.md explains the columns.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path

from benchmarks.cases import CASES
from benchmarks.measure import DTYPES, Record, environment, measure, pool_repeats
from benchmarks.report import render
from benchmarks.targets import TARGETS, judge
from benchmarks.trees import SHAPES

__all__ = ["main"]

# Tree, dtype, cases, number of the repeat.
Job = tuple[str, str, list[str], int]

_SLOW = ("many", "bf16")
_QUICK_SCALES = {"leaf": 1 / 16, "transformer": 1 / 16, "many": 1 / 10}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark.

    Args:
      arguments: Command line; by default the process's own.

    Returns:
      The exit status: 0, or 1 where a measuring process died. Bad arguments exit with 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    for path in (options.json, options.markdown):
        if path is None:
            continue
        try:  # now, not after a quarter of an hour
            path.open("a").close()
        except OSError as error:
            parser.error(f"cannot write {path}: {error.strerror}")
    jobs = _jobs(options)
    if not jobs:
        parser.error("these cases run on none of these trees")
    start = time.monotonic()
    try:
        records, settings = _run(jobs, options)
    except BrokenProcessPool:
        print("A measuring process died: out of memory? Try --scale 0.25.", file=sys.stderr)
        return 1
    settings |= {
        "rounds": str(options.rounds),
        "repeats": str(options.repeats),
        "scale": "quick" if options.quick else f"{options.scale:g}",
        "minutes": f"{(time.monotonic() - start) / 60:.1f}",
    }
    # The figures are those of the full trees.
    findings = judge(records) if not options.quick and options.scale == 1 else []
    print(render(records, findings, settings), end="")
    if options.markdown is not None:
        options.markdown.write_text(render(records, findings, settings, markdown=True))
    if options.json is not None:
        content = {
            "settings": settings,
            "records": [asdict(one) for one in records],
            "findings": [asdict(one) for one in findings],
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.step_cost", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--trees", nargs="+", choices=[*SHAPES], help="default: all")
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=[*DTYPES],
        help="default: all; bf16 with 2,000 leaves, where optax's programs compile for a quarter "
        "of an hour, only where both are asked for",
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        choices=[*CASES],
        metavar="CASE",
        help=f"default: all, where they are of interest; one or more of {', '.join(CASES)}",
    )
    parser.add_argument(
        "--rounds", type=_count, default=11, help="samples of each program (default 11)"
    )
    parser.add_argument(
        "--repeats",
        type=_count,
        default=3,
        help="fresh processes for each measurement that has a figure to reach (default 3)",
    )
    parser.add_argument(
        "--scale", type=_scale, default=1.0, help="size relative to the full trees (default 1)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small trees, 5 rounds, 1 repeat: does it run?"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything measured")
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="write the tables")
    return parser


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1, got {text!r}")
    return int(text)


def _scale(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 8:
        raise argparse.ArgumentTypeError(f"must be a number in (0, 8], got {text!r}")
    return number


def _jobs(options: argparse.Namespace) -> list[Job]:
    """What each process measures."""
    if options.quick:
        options.rounds, options.repeats = min(options.rounds, 5), 1
    judged = {target.case for target in TARGETS}
    everything = options.trees is None or options.dtypes is None
    jobs = []
    # Repeats of one measurement lie apart, so that a busy minute does not fall on all of them.
    for repeat in range(options.repeats):
        for tree in options.trees or SHAPES:
            cases = options.cases or [name for name in CASES if tree in CASES[name].trees]
            if repeat > 0:
                # Compiling for thousands of leaves takes minutes, and varies little.
                cases = [name for name in cases if name in judged and tree != "many"]
            for dtype in options.dtypes or DTYPES:
                if cases and not (everything and not options.quick and (tree, dtype) == _SLOW):
                    jobs.append((tree, dtype, cases, repeat))
    return jobs


def _run(jobs: list[Job], options: argparse.Namespace) -> tuple[list[Record], dict[str, str]]:
    """Measures each job in a process of its own, one after the other."""
    repeats: dict[tuple[str, str, str, str], list[Record]] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        settings = pool.submit(environment).result()
        for number, (tree, dtype, cases, repeat) in enumerate(jobs, start=1):
            scale = _QUICK_SCALES[tree] if options.quick else options.scale
            prefix = f"[{number}/{len(jobs)}, repeat {repeat + 1}]"
            job = (tree, dtype, cases, options.rounds, scale, repeat, prefix)
            for one in pool.submit(_measure, *job).result():
                repeats.setdefault((one.tree, one.dtype, one.case, one.program), []).append(one)
    return [pool_repeats(ones) for ones in repeats.values()], settings


def _measure(
    tree: str, dtype: str, cases: list[str], rounds: int, scale: float, seed: int, prefix: str
) -> list[Record]:
    start = time.monotonic()

    def say(text: str) -> None:
        elapsed = time.monotonic() - start
        print(f"{prefix} {elapsed:4.0f} s  {text}", file=sys.stderr, flush=True)

    return measure(tree, dtype, cases, rounds=rounds, scale=scale, seed=seed, say=say)


if __name__ == "__main__":
    sys.exit(main())
