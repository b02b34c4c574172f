"""Measures what a training step costs, on named trees and on trees of any size."""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import hlo, trees
from benchmarks.harness.clock import COPY, READ, Runner, interleave, make_probes
from benchmarks.harness.compile import DTYPES, compile_step, count_step, start_compiler
from benchmarks.harness.records import Column, Row
from benchmarks.harness.suite import Suite, count
from benchmarks.suites.cases import BARE, CASES, CLIPAX, PEER, TWIN
from benchmarks.suites.figures import judge

SIZED = ("sgd", "adam")
"""What runs on trees of any size."""
JOBS = (
    (("leaf", "transformer"), DTYPES, [name for name, case in CASES.items() if case.usual]),
    (("1e6x1", "1e7x1", "1e8x1", "1e6x150", "1e7x150"), DTYPES, SIZED),
    # Thousands of leaves compile for minutes.
    (("many", "1e6x2000"), ("f32",), SIZED),
    (("1e6x4000",), ("f32",), ("sgd",)),
)
"""Trees, dtypes and cases that run by default; trees are named, or entries x leaves."""


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Measures tree after tree; repeats lie apart, that no busy minute falls on all of them."""
    found: dict[tuple[str, str, str], list[list[Row]]] = {}
    for repeat in range(options.repeats):
        for tree, dtype, case in choose_jobs(options):
            print(f"{case} {dtype} {tree}, repeat {repeat + 1}", file=sys.stderr, flush=True)
            rounds = 0 if options.counts else options.rounds
            job = (tree, dtype, case, rounds, options.programs, repeat)
            if options.repeats > 1:  # in a fresh process
                spawn = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                    rows = pool.submit(measure_case, *job).result()
            else:
                rows = measure_case(*job)
            found.setdefault((tree, dtype, case), []).append(rows)
            yield pool_repeats(found[tree, dtype, case])


def choose_jobs(options: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    """Names trees, dtypes and cases."""
    for names, dtypes, cases in JOBS if not options.trees else [(options.trees, DTYPES, SIZED)]:
        yield from itertools.product(names, options.dtypes or dtypes, options.cases or cases)


def measure_case(
    tree: str, dtype: str, case: str, rounds: int, programs: str = "", seed: int = 0
) -> list[Row]:
    """Compiles the programs of a case on one tree, counts what they do, and times them in turns.

    `programs` is a pattern that leaves out others, and so the ratios to them; without rounds there
    are no times.
    """
    start_compiler()
    params = trees.parameters(tree, DTYPES[dtype])
    grads = trees.gradients(tree, DTYPES[dtype])
    rows: dict[str, Row] = {}
    runners: dict[str, Runner] = {}
    for program, transformation in CASES[case].programs.items():
        if not _runs(program, programs):
            continue
        step, state, seconds = compile_step(transformation, params, grads)
        counts = count_step(step, hlo.tree_bytes(params)) | {"compile_cpu_seconds": seconds}
        given = trees.with_zero_leaves(grads) if program.endswith("zero leaves") else grads
        again = program == CLIPAX and rounds and _runs(TWIN, programs)
        for name in (program, TWIN) if again else (program,):
            rows[name] = dict(counts)
            if rounds:  # the control: the same program in memory of its own
                own, memory = jax.tree.map(jnp.copy, (params, state))
                runners[name] = Runner(step, own, memory, given)
    times = interleave(runners | make_probes(grads), rounds, seed=seed) if rounds else {}
    _compare(rows, times, CASES[case].least)
    where: Row = {"case": case, "dtype": dtype, "tree": tree}
    where["entries"], where["leaves"] = trees.measure_size(tree)
    return [{**where, "program": program, **row} for program, row in rows.items()]


def _compare(rows: dict[str, Row], times: dict[str, np.ndarray], unclipped: int | None) -> None:
    """Adds each program's time and its ratios to others; `unclipped` is the least P without."""
    for row in rows.values():
        for key, peer in {"compile_over_peer": PEER, "compile_over_clipax": CLIPAX}.items():
            if peer in rows:
                row[key] = row["compile_cpu_seconds"] / rows[peer]["compile_cpu_seconds"]
    for program, taken in times.items():
        row = rows.setdefault(program, {})
        row["step_seconds"] = float(np.median(taken))
        row["over_limit"] = float(np.median(taken / (times[BARE] + times[READ])))
        for key, peer in {"over_unclipped": BARE, "over_peer": PEER, "over_clipax": CLIPAX}.items():
            if peer in times:
                row[key] = float(np.median(taken / times[peer]))
        if program == TWIN:
            row["strayed"] = abs(row["over_clipax"] - 1)
        if least := {READ: 1, COPY: 2}.get(program, unclipped):
            row["least"] = least + (program not in (BARE, READ, COPY))
            copied = float(np.median(times[COPY]) / np.median(taken))
            row["share_of_copy"] = copied * row["least"] / 2


def pool_repeats(repeats: Sequence[Sequence[Row]]) -> list[Row]:
    """Joins repeats: medians, and the worst of what the control strayed."""
    pooled = [dict(row) for row in repeats[0]]
    for row, *same in zip(pooled, *repeats, strict=True):
        for key in [key for key, value in row.items() if isinstance(value, float)]:
            join = max if key == "strayed" else np.median
            row[key] = float(join([one[key] for one in same]))
    return pooled


def _runs(program: str, pattern: str) -> bool:
    return program in (BARE, CLIPAX) or bool(re.search(pattern, program))


def _read_tree(text: str) -> str:
    try:
        return trees.check_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_options(add: Any) -> None:
    """Adds the command's options."""
    others = f"beside {BARE} and {CLIPAX}, a regex; default: all; fewer need less memory"
    add(
        "--trees",
        nargs="+",
        type=_read_tree,
        help="names or ENTRIESxLEAVES; default: all of `JOBS`",
    )
    add("--dtypes", nargs="+", choices=DTYPES, help="default: all; those of `JOBS`")
    add("--cases", nargs="+", choices=CASES, help=f"default: {', '.join(SIZED)}; those of `JOBS`")
    add("--programs", default="", help=others)
    add("--repeats", type=count, default=1, help="of all, each in a fresh process; default 1")
    add("--counts", action="store_true", help="no times, counts alone")


SUITE = Suite(
    "what a training step costs",
    ("case", "dtype", "tree"),
    (
        Column("program", "program"),
        Column("least P", "least", "{:.0f}"),
        Column("traffic P", "traffic", "{:.2f}"),
        Column("temp. P", "temporaries", "{:.3f}"),
        Column("peak P", "peak", "{:.2f}"),
        Column("reductions", "reductions", "{:.0f}"),
        Column("compile CPU s", "compile_cpu_seconds", "{:.2f}"),
        Column("compile / peer", "compile_over_peer", "{:.2f}"),
        Column("compile / clipax", "compile_over_clipax", "{:.2f}"),
        Column("step ms", "step_seconds", "{:.3f}", 1e3),
        Column("/ unclipped", "over_unclipped", "{:.2f}"),
        Column("/ limit", "over_limit", "{:.2f}"),
        Column("/ peer", "over_peer", "{:.2f}"),
        Column("/ clipax", "over_clipax", "{:.2f}"),
        Column("of a copy", "share_of_copy", "{:.2f}"),
    ),
    measure,
    judge,
    add_options,
    rounds=11,
    prepare=lambda options: {"repeats": str(options.repeats)},
    title=lambda row: "{}; peer: {}".format(*CASES[row["case"]][:2]),
)
