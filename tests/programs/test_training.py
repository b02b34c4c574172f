"""A whole training step: a clip adds no more than optax's, and keeps nothing from being fused."""

from __future__ import annotations

import pytest

from benchmarks.harness import records
from benchmarks.suites import training

JOBS = [
    ("gpu", form, dtype, "global norm")
    for form, dtype in (("step", "f32"), ("step", "bf16"), ("scan", "f32"))
]
# Its compiler takes a second for each product of matrices.
JOBS += [("tpu", "step", "f32", clip) for clip in ("global norm", "AGC")]


@pytest.mark.parametrize(("target", "form", "dtype", "clip"), JOBS)
def test_a_clip_adds_no_more_than_optax(target: str, form: str, dtype: str, clip: str) -> None:
    rows = [
        {"form": form, "dtype": dtype, "clip": clip, "program": program}
        | training.count_step(target, form, 1, dtype, training.CLIPS[clip][program])
        for program in (training.OPTAX, training.CLIPAX)
    ]
    found = list(training.judge(rows, target))
    assert {one.figure for one in found} >= {"waits", "traffic, P", "temporaries, P"}
    missed = [one for one in found if one.value > one.limit]
    assert not missed, records.render_findings(missed)
