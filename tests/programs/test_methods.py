"""Every method on a TPU and a GPU: no waiting host, few kernels, no copy, no read too many."""

from __future__ import annotations

import functools

import pytest

from benchmarks.harness import records, targets
from benchmarks.suites import programs
from benchmarks.suites.peers import list_compared

# Copies creep in where bfloat16 is computed in float32; trees compile for seconds.
TREES = [("leaf", "f32"), ("leaf", "bf16"), ("matrix", "bf16"), ("layers", "f32")]
JOBS = [
    (target, tree, dtype, method)
    for target in targets.PACKAGES
    for tree, dtype in TREES
    for method in programs.choose(target, tree)
]

EXCEPTIONS: dict[tuple[str, str, str], float] = {}
"""What is known to miss a figure: target, tree, "method: figure" and what it reaches."""


count = functools.cache(programs.count)


@pytest.mark.parametrize(("target", "tree", "dtype", "method"), JOBS)
def test_a_step_holds_its_figures(target: str, tree: str, dtype: str, method: str) -> None:
    peer = list_compared()[method].peer
    rows = [count(target, programs.PEER + peer, tree, dtype)] if peer else []
    (row,) = programs.join([*rows, count(target, method, tree, dtype)])
    missed = [
        one
        for one in programs.judge_row(row, target)
        if one.value > EXCEPTIONS.get((target, tree, f"{method}: {one.figure}"), one.limit)
    ]
    assert not missed, records.render_findings(missed)
