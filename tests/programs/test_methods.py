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

EXCEPTIONS: dict[tuple[str, str, str], float] = {
    # On a TPU two slots of a ring of vectors lie in one tile: a slot is read with its neighbour.
    ("tpu", "leaf", "delay_updates: traffic, P"): 9.01,
    ("tpu", "leaf", "delay_updates: temporaries, P"): 3.01,
    ("tpu", "leaf", "delay_updates: held, P"): 3.01,
    # The change is written out where it is measured and used: in bfloat16 on a TPU, and by rows.
    ("tpu", "leaf", "with_error_feedback: traffic, P"): 11.01,
    ("tpu", "matrix", "with_error_feedback: traffic, P"): 11.01,
    ("gpu", "layers", "with_error_feedback: traffic, P"): 8.02,
    # A kernel a leaf that writes the ring.
    ("gpu", "layers", "delay_updates: kernels"): 130,
    # The scale of a stepsize is rounded by turns of the count of steps: a kernel reads it.
    **{
        ("gpu", tree, f"{method}: kernels"): kernels
        for tree in ("leaf", "matrix")
        for method, kernels in {
            "norms.adagrad_norm": 8,
            "norms.adam_norm": 8,
            "clip_adagrad": 7,
        }.items()
    },
    ("gpu", "matrix", "clip_by_param_norm: traffic, P"): 5.03,
    # Up to .005 P more than the peer's and .02.
    ("tpu", "layers", "clip_by_param_norm: temporaries, P"): 0.043,
    ("tpu", "layers", "stable_adamw: temporaries, P"): 0.054,
}
"""What is known to miss a figure: target, tree, "method: figure" and what it reaches."""


count = functools.cache(programs.count)


@pytest.mark.parametrize(("target", "tree", "dtype", "method"), JOBS)
def test_a_step_holds_its_figures(target: str, tree: str, dtype: str, method: str) -> None:
    peer = list_compared()[method].peer
    rows = [count(target, programs.PEER + peer, tree, dtype)] if peer else []
    (row,) = programs.join([*rows, count(target, method, tree, dtype)])
    missed = [
        one
        for one in programs.judge_row(row, target, granted=True)
        if one.value > EXCEPTIONS.get((target, tree, f"{method}: {one.figure}"), one.limit)
    ]
    assert not missed, records.render_findings(missed)
