"""Counts what every method's step is compiled to on a TPU or a GPU, beside optax's equivalent."""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import jax

from benchmarks.harness import hlo, records, targets, trees
from benchmarks.harness.compile import DTYPES
from benchmarks.harness.records import Column, Finding, Row
from benchmarks.harness.suite import Suite
from benchmarks.suites.peers import PEERS, list_compared

TREES = ("leaf", "matrix", "layers")
ONE_ARRAY = ("leaf", "matrix")
COUNTS = ("kernels", "waits", "traffic", "temporaries")

# What scalars, norms of units and partial sums may take, in P.
SLACK = 0.02


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Compiles tree after tree."""
    for tree, dtype in itertools.product(options.trees, options.dtypes):
        rows = []
        for method in choose(options.target, tree):
            if re.search(options.only, method):
                print(f"{tree} {dtype} {method} ...", file=sys.stderr, flush=True)
                rows.append(compare(options.target, method, tree, dtype))
        yield rows


def choose(target: str, tree: str) -> list[str]:
    """Names the methods whose step compiles in minutes."""
    matrices = target == "tpu" and tree != "leaf"
    return [name for name, one in list_compared().items() if not (one.branches and matrices)]


def compare(target: str, method: str, tree: str, dtype: str) -> Row:
    """Counts a method's step beside the peer's."""
    compared = list_compared()[method]
    row: Row = {"target": target, "tree": tree, "dtype": dtype, "method": method}
    row |= {"peer": compared.peer, **count(target, compared.ours, tree, dtype)}
    theirs = _count_peer(target, compared.peer, tree, dtype) if compared.peer else {}
    row |= {f"peer {name}": value for name, value in theirs.items()}
    if compared.reads is not None:
        params = describe(tree, dtype)
        memory = hlo.tree_bytes(jax.eval_shape(compared.ours.init, params))
        row["limit"] = 3 + compared.reads + 2 * memory / hlo.tree_bytes(params)
    return row


def count(target: str, transformation: Any, tree: str, dtype: str) -> dict[str, float]:
    """Compiles a step and counts; memory in units of the parameters' bytes."""
    params = describe(tree, dtype)
    compiled = targets.compile_step(transformation, params, target)
    found, size = hlo.count(compiled.program), hlo.tree_bytes(params)
    return {
        "kernels": found.kernels,
        "waits": found.conditionals + found.open_loops,
        "traffic": found.bytes_accessed / size,
        "temporaries": found.temporaries / size,
        "seconds": compiled.seconds,
    }


@cache
def _count_peer(target: str, peer: str, tree: str, dtype: str) -> Mapping[str, float]:
    return count(target, PEERS[peer](), tree, dtype)


def describe(tree: str, dtype: str) -> Any:
    """Describes a tree of parameters: shapes and dtypes."""
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, DTYPES[dtype]),
        trees.shapes(tree),
        is_leaf=lambda node: isinstance(node, tuple),
    )


def judge_row(row: Row) -> Iterator[Finding]:
    """Judges one method on one tree."""
    compared = list_compared()[row["method"]]
    where = f"{row['method']}, {row['tree']}, {row['dtype']}"
    one, gpu = row["tree"] in ONE_ARRAY, row["target"] == "gpu"
    if not compared.branches:
        yield records.judge("waits of the host" if gpu else "conditionals", where, row["waits"], 0)
    beside = {name: row.get(f"peer {name}") for name in COUNTS}
    if gpu and beside["kernels"] is not None:
        more = compared.more if one or compared.more_on_trees else 0
        yield records.judge("kernels", where, row["kernels"], beside["kernels"] + more)
    if gpu or one:
        allowed = [row.get("limit"), beside["traffic"]]
        if known := [value for value in allowed if value is not None]:
            yield records.judge("traffic, P", where, row["traffic"], max(known) + SLACK)
    if beside["temporaries"] is not None:
        limit = SLACK + (0 if one and not gpu else beside["temporaries"])
        yield records.judge("temporaries, P", where, row["temporaries"], limit)


def judge(rows: Sequence[Row], device: str) -> Iterator[Finding]:
    """Judges how many methods miss each figure: none may."""
    findings: dict[tuple[str, str], list[Finding]] = {}
    for row in rows:
        for one in judge_row(row):
            place = f"{row['tree']}, {row['dtype']}"
            findings.setdefault((one.figure, place), []).append(one)
    for (figure, place), some in findings.items():
        missed = [one for one in some if one.verdict == records.MISSED]
        names = [f"{one.where.split(',')[0]} {one.value:.4g} > {one.limit:.4g}" for one in missed]
        where = f"{place}: not {', '.join(names)}" if names else f"{place}: all {len(some)}"
        yield records.judge(figure, where, len(missed), 0)


def _pattern(text: str) -> str:
    if not any(re.search(text, name) for name in list_compared()):
        raise argparse.ArgumentTypeError(f"nothing matches {text!r}")
    return text


def add_options(add: Any) -> None:
    """Adds the command's options."""
    add("--target", choices=targets.PACKAGES, required=True, help="what to compile for")
    add("--only", type=_pattern, default="", help="methods whose name matches, a regex")
    add("--trees", nargs="+", choices=trees.SHAPES, default=TREES)
    add("--dtypes", nargs="+", choices=DTYPES, default=tuple(DTYPES))


SUITE = Suite(
    "what every method's step is compiled to",
    ("target", "tree", "dtype"),
    (
        Column("method", "method"),
        Column("kernels", "kernels"),
        Column("waits", "waits"),
        Column("traffic P", "traffic", "{:.2f}"),
        Column("limit P", "limit", "{:.2f}"),
        Column("temp. P", "temporaries", "{:.3f}"),
        Column("compile s", "seconds", "{:.1f}"),
        Column("peer", "peer"),
        Column("kernels", "peer kernels"),
        Column("waits", "peer waits"),
        Column("traffic P", "peer traffic", "{:.2f}"),
        Column("temp. P", "peer temporaries", "{:.3f}"),
        Column("compile s", "peer seconds", "{:.1f}"),
    ),
    measure,
    judge,
    add_options,
    prepare=lambda options: targets.prepare(options.target),
)
