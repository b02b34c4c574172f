"""Measures what a training step costs, on named trees and on trees of any size."""

from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import hlo, records, trees
from benchmarks.harness.clock import COPY, READ, Runner, interleave, make_probes
from benchmarks.harness.compile import DTYPES, compile_step, count_step, memory_size, start_compiler
from benchmarks.harness.records import Column, Row
from benchmarks.harness.suite import Suite, count, draw_lines
from benchmarks.suites.cases import BARE, CASES, CLIPAX, PEER, TWIN
from benchmarks.suites.figures import judge

POINTS = (*(f"1e{power}x1" for power in range(4, 10)), "1e6x150", "1e7x150", "1e6x2000", "1e6x4000")
"""Where clip + SGD and clip + Adam run, entries x leaves; what does not fit is left out."""
NAMED = ("leaf", "transformer", "many")
SIZED_CASES = {"sgd": 1, "adam": 3}
"""What runs on trees of any size, and how many trees its parameters and state are."""
QUICK_SCALES = {"leaf": 1 / 16, "transformer": 1 / 16, "many": 1 / 10}
# Thousands of leaves compile for minutes: there only what has a figure to reach, unless asked for.
MANY, MOST = 1000, 4000
# The rest is for temporaries, and for what the allocator cannot join.
SHARE_OF_MEMORY = 0.7


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Measures tree after tree; repeats lie apart, that no busy minute falls on all of them."""
    found: dict[tuple[str, str, str], list[list[Row]]] = {}
    for repeat in range(options.repeats):
        for tree, dtype, case in choose_jobs(options):
            scale = QUICK_SCALES.get(tree, 1.0) if options.quick else 1.0
            size = trees.measure_size(tree, scale)[0] * jnp.dtype(DTYPES[dtype]).itemsize
            needs = memory_needed(size, case, options.programs)
            if needs > SHARE_OF_MEMORY * memory_size():
                text = f"left out, {needs / 1e9:.1f} GB are too much"
                print(f"{case} {dtype} {tree}: {text}", file=sys.stderr)
                continue
            print(f"{case} {dtype} {tree}, repeat {repeat + 1}", file=sys.stderr, flush=True)
            rounds = 0 if options.counts else options.rounds
            job = (tree, dtype, case, rounds, options.programs, repeat, scale)
            if options.repeats > 1:  # in a fresh process
                spawn = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                    rows = pool.submit(measure_case, *job).result()
            else:
                rows = measure_case(*job)
            found.setdefault((tree, dtype, case), []).append(rows)
            yield pool_repeats(found[tree, dtype, case])


def choose_jobs(options: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    """Names trees, dtypes and cases: those asked for, else where they are of interest."""
    for tree in options.trees or (NAMED if options.quick else NAMED + POINTS):
        _, leaves = trees.measure_size(tree)
        usual = [case for case in CASES if CASES[case].usual]
        if tree not in NAMED or leaves >= MANY:
            usual = [*SIZED_CASES][: 1 if leaves >= MOST else 2]
        for dtype in options.dtypes or (["f32"] if leaves >= MANY else DTYPES):
            for case in options.cases or usual:
                yield tree, dtype, case


def measure_case(
    tree: str,
    dtype: str,
    case: str,
    rounds: int,
    programs: str = "",
    seed: int = 0,
    scale: float = 1.0,
) -> list[Row]:
    """Compiles the programs of a case on one tree, counts what they do, and times them in turns.

    `programs` is a pattern that leaves out others, and so the ratios to them; `scale` is that of a
    quick run; without rounds there are no times.
    """
    start_compiler()
    params = trees.parameters(tree, DTYPES[dtype], scale=scale)
    grads = trees.gradients(tree, DTYPES[dtype], scale=scale)
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
    where: Row = {"case": case, "dtype": dtype, "tree": tree if scale == 1 else f"{tree}, quick"}
    where["entries"], where["leaves"] = trees.measure_size(tree, scale)
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
        peers = {"over_unclipped": BARE, "over_peer": PEER, "over_clipax": CLIPAX}
        row |= {
            key: float(np.median(taken / times[peer]))
            for key, peer in peers.items()
            if peer in times
        }
        if program == TWIN:
            row["strayed"] = abs(row["over_clipax"] - 1)
        if least := {READ: 1, COPY: 2}.get(program, unclipped):
            row["least"] = least + (program not in (BARE, READ, COPY))
            copied = float(np.median(times[COPY]) / np.median(taken))
            row["share_of_copy"] = copied * row["least"] / 2


def pool_repeats(repeats: Sequence[Sequence[Row]]) -> list[Row]:
    """Joins repeats: medians, and the worst of what the control strayed."""
    pooled = []
    for same in zip(*repeats, strict=True):
        numbers = {
            key: [one[key] for one in same] for key in same[0] if type(same[0][key]) is float
        }
        joined = same[0] | {key: float(np.median(some)) for key, some in numbers.items()}
        pooled.append(joined | {key: max(numbers[key]) for key in numbers if key == "strayed"})
    return pooled


def memory_needed(size: int, case: str, programs: str = "") -> int:
    """Counts the bytes that programs hold on a tree of `size` bytes while they take turns.

    Each program's own, and one's more while it moves; the parameters that all start from, the
    gradient and its copy.
    """
    ours = sum(_runs(name, programs) for name in (*CASES[case].programs, TWIN))
    return size * (SIZED_CASES.get(case, 3) * (ours + 1) + 3)


def _runs(program: str, pattern: str) -> bool:
    return program in (BARE, CLIPAX) or bool(re.search(pattern, program))


def draw(content: records.Content, path: Path) -> None:
    """Draws cost against size (squares: 150 leaves), and compile time against leaves."""
    rows = [row for row in content.rows if row["tree"] not in trees.SHAPES]

    def lines(x: str, y: str, style: str, **wanted: Any) -> list[Any]:
        found = []
        for place, program in enumerate((BARE, PEER, CLIPAX)):
            where = (wanted | {"program": program}).items()
            some = [(row[x], row[y]) for row in rows if y in row and where <= row.items()]
            found.append((None if style == "s:" else program, style, f"C{place}", some))
        return found

    panels: list[Any] = []
    for case, dtype in dict.fromkeys((row["case"], row["dtype"]) for row in rows):
        labels = {"xlabel": "entries", "ylabel": "time / (unclipped + one read)"}
        labels["title"], where = f"{case}, {dtype}", {"case": case, "dtype": dtype}
        one = lines("entries", "over_limit", "o-", leaves=1, **where)
        panels.append((labels, one + lines("entries", "over_limit", "s:", leaves=150, **where)))
    labels = {"title": "sgd, f32", "xlabel": "leaves", "ylabel": "compile, CPU seconds"}
    panels.append((labels, lines("leaves", "compile_cpu_seconds", "o", case="sgd", dtype="f32")))
    about = "; ".join(dict.fromkeys(f"{one['device']}, jax {one['jax']}" for one in content.runs))
    draw_lines(panels, f"{about}; circles: one leaf, squares: 150", path)


def _read_tree(text: str) -> str:
    try:
        return trees.check_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_options(add: Any) -> None:
    """Adds the command's options."""
    everywhere = f"names or ENTRIESxLEAVES; default: {' '.join((*NAMED, *POINTS))}"
    others = f"beside {BARE} and {CLIPAX}, a regex; default: all; fewer need less memory"
    add("--trees", nargs="+", type=_read_tree, help=everywhere)
    add("--dtypes", nargs="+", choices=DTYPES, help="default: all; f32 from 1,000 leaves on")
    add("--cases", nargs="+", choices=CASES, help="default: what is of interest for the tree")
    add("--programs", default="", help=others)
    add("--repeats", type=count, default=1, help="of all, each in a fresh process; default 1")
    add("--counts", action="store_true", help="no times, counts alone")
    add("--quick", action="store_true", help="small named trees: does it run?")


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
    draw=draw,
    title=lambda row: "{}; peer: {}".format(*CASES[row["case"]][:2]),
)
