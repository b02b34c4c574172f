"""Measures what clipping every example's gradient takes: time and memory against batch size."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.command import count
from benchmarks.harness import records
from benchmarks.harness.clock import interleave, median_ratio
from benchmarks.harness.hlo import tree_bytes
from benchmarks.harness.records import Column, Finding, Row
from benchmarks.harness.suite import Option, Suite, draw_lines
from benchmarks.suites import per_example_forms as forms
from benchmarks.suites.per_example_models import MODELS

SIZES = {"mlp": [32, 128, 256], "transformer": [8, 32, 64]}
# At the largest batch: time over optax's; and temporaries in P.
LIMITS, LIMIT_TEMPORARIES = {"mlp": 0.2, "transformer": 1.1}, 15.0


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Times all forms on one batch after the other, in turns."""
    for model in options.models:
        for size in options.sizes or SIZES[model]:
            yield _measure_batch(model, size, options.rounds)


def _measure_batch(model: str, size: int, rounds: int) -> list[Row]:
    problem = MODELS[model](size)
    runners, temporaries = {}, {}
    for form in forms.FORMS:
        # Opacus knows layers of PyTorch, for which only the dense model has a twin.
        if form in forms.find_missing() or (form == forms.OPACUS and model != "mlp"):
            continue
        runners[form], temporaries[form] = forms.make(form, problem)
    times = interleave(runners, rounds)
    rows = []
    for form, taken in times.items():
        found, ours = temporaries[form], median_ratio(taken, times[forms.CLIPAX])
        row = {"model": model, "size": size, "form": form}
        row["milliseconds"] = 1e3 * float(np.median(taken))
        row["temporaries"] = None if found is None else found / tree_bytes(problem.params)
        row["over_plain"] = median_ratio(taken, times[forms.PLAIN]).median
        row["over_optax"] = median_ratio(taken, times[forms.OPTAX]).median
        rows.append(row | {"over_clipax": ours.median, "low": ours.low, "high": ours.high})
    return rows


def judge(rows: Sequence[Row], device: str) -> Iterator[Finding]:
    """Judges the time at a model's largest batch, and the most temporaries."""
    for model, limit in LIMITS.items():
        ours = [row for row in rows if (row["model"], row["form"]) == (model, forms.CLIPAX)]
        if SIZES[model][-1] not in [row["size"] for row in ours]:
            continue
        last = max(ours, key=lambda row: row["size"])
        yield records.judge("time / optax's", model, last["over_optax"], limit)
        most = max(row["temporaries"] for row in ours)
        yield records.judge("temporaries, P", model, most, LIMIT_TEMPORARIES)


def draw(content: records.Content, path: Path) -> None:
    """Draws time and temporaries of every form against the batch's size, a column a model."""
    models = dict.fromkeys(row["model"] for row in content.rows)
    quantities = {"milliseconds": "a step, ms", "temporaries": "temporaries / parameters"}
    panels = [
        (
            {"title": model, "xlabel": "examples in a batch", "ylabel": label},
            [
                (form, f"{'osD^vP'[place % 6]}-", f"C{place}", _points(content, model, form, key))
                for place, form in enumerate(form for form in forms.FORMS if form != forms.AGAIN)
            ],
        )
        for key, label in quantities.items()
        for model in models
    ]
    title = f"Clipping every example ({content.runs[0]['device']})"
    draw_lines(panels, title, path, rows=2)


def _points(content: records.Content, *wanted: str) -> list[tuple[float, float]]:
    *where, key = wanted
    return [
        (row["size"], row[key])
        for row in content.rows
        if [row["model"], row["form"]] == where and row[key] is not None
    ]


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
    (
        Option("--models", "", [*MODELS], str, [*MODELS], True),
        Option("--sizes", f"of batches, instead of {SIZES}", None, count, None, True),
    ),
    rounds=7,
    prepare=lambda options: forms.versions() | {"left out": ", ".join(forms.find_missing())},
    draw=draw,
)
