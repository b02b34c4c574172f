"""Counts what every method's step is compiled to on a TPU or a GPU, beside optax's equivalent."""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from benchmarks.harness import hlo, records, targets, trees
from benchmarks.harness.compile import DTYPES
from benchmarks.harness.records import Column, Content, Finding, Row
from benchmarks.harness.suite import Suite
from benchmarks.suites.peers import OURS, PEERS, list_compared

TREES, ONE_ARRAY = ("leaf", "layers"), ("leaf", "matrix")
PEER = "peer: "
"""In front of the names of peers, in rows of their own."""

# What scalars, norms of units and partial sums may take, in P.
SLACK = 0.02


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Compiles tree after tree."""
    for tree, dtype in itertools.product(options.trees, options.dtypes):
        names = [one for one in choose(options.target, tree) if re.search(options.only, one)]
        peers = dict.fromkeys(PEER + list_compared()[one].peer for one in names)
        rows = []
        for name in [*(one for one in peers if one != PEER), *names]:
            print(f"{tree} {dtype} {name} ...", file=sys.stderr, flush=True)
            rows.append(count(options.target, name, tree, dtype))
        yield rows


def choose(target: str, tree: str) -> list[str]:
    """Names the methods whose step compiles in minutes."""
    matrices = target == "tpu" and tree != "leaf"
    return [name for name, one in list_compared().items() if not (one.branches and matrices)]


def count(target: str, name: str, tree: str, dtype: str) -> Row:
    """Counts what a method's or a peer's step is compiled to; memory in units of the parameters'.

    A method's row says its peer, and the traffic that it cannot do without where that is known.
    """
    row: Row = {"tree": tree, "dtype": dtype, "method": name}
    params = describe(tree, dtype)
    size = hlo.tree_bytes(params)
    if name.startswith(PEER):
        optimizer = PEERS[name.removeprefix(PEER)]()
    else:
        optimizer, peer, reads, again = list_compared()[name][:4]
        row["peer"] = peer
        if reads is not None:
            memory = hlo.tree_bytes(jax.eval_shape(optimizer.init, params))
            row["limit"] = round(3 + reads + (2 + again) * memory / size, 3)
    step, arguments = targets.place_step(optimizer, params, target)
    if target == "tpu":
        compiled, held = targets.compile_with_held(step, *arguments, donate_argnums=(0, 1))
        row["held"] = round(held / size, 4)
    else:
        compiled = targets.compile(step, *arguments, donate_argnums=(0, 1))
    found = hlo.count(compiled.program)
    return row | {
        "kernels": found.kernels,
        # Loops wait where the host decides on the next round.
        "waits": found.conditionals + (found.open_loops if target == "gpu" else 0),
        "traffic": round(found.bytes_accessed / size, 3),
        "temporaries": round(found.temporaries / size, 4),
        "seconds": round(compiled.seconds, 1),
    }


def join(rows: Sequence[Row]) -> list[Row]:
    """Puts each peer's counts into the rows of the methods that it is beside."""
    peers = {(row["tree"], row["dtype"], row["method"]): row for row in rows}
    joined = []
    for row in rows:
        if not row["method"].startswith(PEER):
            peer = peers.get((row["tree"], row["dtype"], PEER + row["peer"]), {})
            joined.append({f"peer {key}": value for key, value in peer.items()} | row)
    return joined


def describe(tree: str, dtype: str) -> Any:
    """Describes a tree of parameters: shapes and dtypes."""
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, DTYPES[dtype]),
        trees.shapes(tree),
        is_leaf=lambda node: isinstance(node, tuple),
    )


def judge_row(row: Row, device: str, *, granted: bool = False) -> Iterator[Finding]:
    """Judges one method on one tree, its peer's counts beside.

    Args:
      row: As `join` gives it.
      device: What it is compiled for.
      granted: Whether a method may have what `peers` grants it: a reading of memory that it
        measures, or kernels for what it remembers.
    """
    compared, one = list_compared()[row["method"]], row["tree"] in ONE_ARRAY
    where = f"{row['method']}, {row['tree']}, {row['dtype']}"
    gpu = device.startswith("gpu")
    if not compared.branches:
        yield records.judge("waits of the host" if gpu else "conditionals", where, row["waits"], 0)
    if gpu and "peer kernels" in row:
        more = compared.more if granted else 2
        if not one and not (compared.more_on_trees if granted else compared.peer == OURS):
            more = 0
        yield records.judge("kernels", where, row["kernels"], row["peer kernels"] + more)
    # What stands in branches and loops is not counted in full: such a peer's traffic is no limit.
    names = ("limit",) if row.get("peer waits") else ("limit", "peer traffic")
    known = [row[name] for name in names if name in row]
    if known and (gpu or one):
        limit = max(known) if granted else min(known)
        yield records.judge("traffic, P", where, row["traffic"], limit + SLACK)
    if "peer temporaries" in row:
        beside = gpu or (granted and not one)
        limit = SLACK + (row["peer temporaries"] if beside else 0)
        yield records.judge("temporaries, P", where, row["temporaries"], limit)
        if "held" in row:
            yield records.judge("held, P", where, row["held"], SLACK)


def judge(rows: Sequence[Row], device: str) -> Iterator[Finding]:
    """Judges how many methods miss each figure; `tests/programs` holds what is granted."""
    findings: dict[tuple[str, str], list[Finding]] = {}
    for row in join(rows):
        for one in judge_row(row, device):
            place = f"{row['tree']}, {row['dtype']}"
            findings.setdefault((one.figure, place), []).append(one)
    for (figure, place), some in findings.items():
        missed = [one for one in some if one.verdict == records.MISSED]
        names = [f"{one.where.split(',')[0]} {one.value:.4g} > {one.limit:.4g}" for one in missed]
        where = f"{place}: not {', '.join(names)}" if names else f"{place}: all {len(some)}"
        yield records.judge(figure, where, len(missed), 0)


def prepare(options: argparse.Namespace) -> Mapping[str, str]:
    """Sets the process up for the target, then looks for the methods: making one uses a device."""
    versions = targets.prepare(options.target)
    if not any(re.search(options.only, name) for name in list_compared()):
        raise ValueError(f"`--only`: nothing matches {options.only!r}")
    return versions


def add_options(add: Any) -> None:
    """Adds the command's options."""
    add("--target", choices=targets.PACKAGES, help="what to compile for; needed")
    add("--only", default="", help="methods whose name matches, a regex")
    add("--trees", nargs="+", choices=trees.SHAPES, default=TREES)
    add("--dtypes", nargs="+", choices=DTYPES, default=tuple(DTYPES))


class Programs(Suite):
    """A suite whose tables have the peers beside the methods."""

    def render(self, content: Content, *, markdown: bool = False, judged: bool = True) -> str:
        """Writes runs, tables and figures to reach."""
        text = super().render(
            Content(content.runs, join(content.rows)), markdown=markdown, judged=False
        )
        if judged:
            found = records.render_findings(self.judge_all(content), markdown=markdown)
            text += f"\n{'## ' if markdown else ''}Figures to reach\n\n{found}\n"
        return text


SUITE = Programs(
    "what every method's step is compiled to",
    ("tree", "dtype"),
    (
        Column("method", "method"),
        Column("kernels", "kernels"),
        Column("waits", "waits"),
        Column("traffic P", "traffic", "{:.2f}"),
        Column("limit P", "limit", "{:.2f}"),
        Column("temp. P", "temporaries", "{:.3f}"),
        Column("held P", "held", "{:.3f}"),
        Column("compile s", "seconds", "{:.1f}"),
        Column("peer", "peer"),
        Column("kernels", "peer kernels"),
        Column("waits", "peer waits"),
        Column("traffic P", "peer traffic", "{:.2f}"),
        Column("temp. P", "peer temporaries", "{:.3f}"),
        Column("held P", "peer held", "{:.3f}"),
        Column("compile s", "peer seconds", "{:.1f}"),
    ),
    measure,
    judge,
    add_options,
    prepare=prepare,
    apart="method",
)
