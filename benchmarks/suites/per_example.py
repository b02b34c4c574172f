"""Measures what clipping every example's gradient takes: time and memory against batch size."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.harness import records
from benchmarks.harness.clock import divide, interleave
from benchmarks.harness.hlo import tree_bytes
from benchmarks.harness.records import Column, Finding, Row
from benchmarks.harness.suite import Suite, count
from benchmarks.suites import per_example_forms as forms

SIZES = {"mlp": [32, 128, 256], "transformer": [8, 32, 64]}
# At the largest batch: time over optax's; and temporaries in P.
LIMITS, LIMIT_TEMPORARIES = {"mlp": 0.2, "transformer": 1.1}, 15.0


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Times all forms on one batch after the other, in turns."""
    for model in options.models:
        for size in options.sizes or SIZES[model]:
            yield _measure_batch(model, size, options.rounds)


def _measure_batch(model: str, size: int, rounds: int) -> list[Row]:
    problem = forms.MODELS[model](size)
    made = {form: forms.make(form, problem) for form in forms.FORMS}
    times = interleave({form: runner for form, (runner, _) in made.items()}, rounds)
    rows = []
    for form, taken in times.items():
        row = {"model": model, "size": size, "form": form}
        row["milliseconds"] = 1e3 * float(np.median(taken))
        row["temporaries"] = made[form][1] / tree_bytes(problem.params)
        _, row["over_plain"], _ = divide(taken, times[forms.PLAIN])
        _, row["over_optax"], _ = divide(taken, times[forms.OPTAX])
        row["low"], row["over_clipax"], row["high"] = divide(taken, times[forms.CLIPAX])
        rows.append(row)
    return rows


def judge(rows: Sequence[Row], device: str) -> Iterator[Finding]:
    """Judges the time at a model's largest batch, and the most temporaries."""
    for model, limit in LIMITS.items():
        ours = [row for row in rows if (row["model"], row["form"]) == (model, forms.CLIPAX)]
        for last in ours:
            if last["size"] == SIZES[model][-1]:
                yield records.judge("time / optax's", model, last["over_optax"], limit)
                most = max(row["temporaries"] for row in ours)
                yield records.judge("temporaries, P", model, most, LIMIT_TEMPORARIES)


def add_options(add: Any) -> None:
    """Adds the command's options."""
    add("--models", nargs="+", choices=forms.MODELS, default=[*forms.MODELS], help="default: both")
    add("--sizes", nargs="+", type=count, help=f"of batches, instead of {SIZES}")


SUITE = Suite(
    "what clipping every example's gradient takes",
    ("model", "size"),
    (
        Column("form", "form"),
        Column("ms", "milliseconds", "{:.2f}"),
        Column("temp. P", "temporaries", "{:.2f}"),
        Column("/ plain", "over_plain", "{:.2f}"),
        Column("/ optax", "over_optax", "{:.3f}"),
        Column("/ clipax", "over_clipax", "{:.3f}"),
        Column("10 %", "low", "{:.3f}"),
        Column("90 %", "high", "{:.3f}"),
    ),
    measure,
    judge,
    add_options,
    rounds=7,
    prepare=lambda options: {name: version(name) for name in forms.FORMS if name == "jax_privacy"},
)
