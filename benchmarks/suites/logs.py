"""Measures how far the norms of real training stray from those before them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

import clipax
from benchmarks import norms
from benchmarks.harness.records import Column, Row
from benchmarks.harness.suite import Suite

WINDOW, LEAST = 100, 10
"""A norm is set against the median of up to so many logged before it, but of no fewer."""

QUANTILES = {"95 %": 0.95, "99 %": 0.99, "99.9 %": 0.999, "most": 1.0}
FEWEST = 1_000
"""Ratios for which a quantile of 99.9 % is told."""


def compute_ratios(sizes: np.ndarray) -> np.ndarray:
    """Divides each norm by the median of those before it; zeros and the first ones are left out."""
    found = []
    for place, size in enumerate(sizes):
        before = sizes[max(0, place - WINDOW) : place]
        before = before[before > 0]
        if size > 0 and len(before) >= LEAST:
            found.append(size / np.median(before))
    return np.array(found)


def describe(log: norms.Log) -> Row:
    """Describes the ratios of a run: quantiles, spikes, tail."""
    parts = [compute_ratios(one.norms) for one in log.stretches]
    ratios, logged = np.concatenate(parts), np.concatenate([one.norms for one in log.stretches])
    row: Row = {
        "table": "public logs",
        "of": log.name,
        "kind": log.kind,
        "every": log.every,
        "norms": len(ratios),
        "zero": float(np.mean(logged == 0)),
    }
    row |= {
        name: float(np.quantile(ratios, one))
        for name, one in QUANTILES.items()
        if one in (0.95, 1.0) or len(ratios) * (1 - one) >= 1
    }
    row |= {f"above {one}": float(np.mean(ratios > one)) for one in (2, 3, 10)}
    spikes = sum(int((one > 2).sum()) for one in parts)
    after = sum(int(((one[1:] > 2) & (one[:-1] > 2)).sum()) for one in parts)
    row["in a row"] = after / spikes if spikes else None
    advice = clipax.advise(ratios)
    if advice.tail_index is not None and advice.tail_interval is not None:
        low, high = advice.tail_interval
        row["tail"] = f"{advice.tail_index:.2g} ({low:.2g} to {high:.2g})"
    return row


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Describes the public logs, then our own runs."""
    yield [describe(one) for one in norms.load(norms.PUBLIC)]
    yield [describe(one) | {"table": "our own runs"} for one in norms.load(norms.OWN)]


COLUMNS = (
    Column("run", "of"),
    Column("every", "every"),
    Column("norms", "norms"),
    *(Column(name, name, "{:.2f}") for name in QUANTILES),
    *(Column(f"> {one}x", f"above {one}", "{:.1%}") for one in (2, 3, 10)),
    Column("in a row", "in a row", "{:.0%}"),
    Column("tail index", "tail"),
    Column("zero", "zero", "{:.0%}"),
)

SUITE = Suite(
    "the norm of a gradient over the median of up to 100 logged before it",
    ("table",),
    COLUMNS,
    measure,
)
