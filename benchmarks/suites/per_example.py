"""Measures what clipping every example's gradient takes: time and memory against batch size."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import records
from benchmarks.harness.clock import interleave, median_ratio
from benchmarks.harness.hlo import tree_bytes
from benchmarks.harness.records import Column, Finding, Row
from benchmarks.harness.suite import Suite, count, draw_lines
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
    there = [form for form in forms.FORMS if form not in forms.find_missing()]
    made = {form: forms.make(form, problem) for form in there}
    times = interleave({form: runner for form, (runner, _) in made.items()}, rounds)
    rows = []
    for form, taken in times.items():
        row = {"model": model, "size": size, "form": form}
        row["milliseconds"] = 1e3 * float(np.median(taken))
        row["temporaries"] = made[form][1] / tree_bytes(problem.params)
        row["over_plain"] = median_ratio(taken, times[forms.PLAIN]).median
        row["over_optax"] = median_ratio(taken, times[forms.OPTAX]).median
        ours = median_ratio(taken, times[forms.CLIPAX])
        rows.append(row | {"over_clipax": ours.median, "low": ours.low, "high": ours.high})
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


def draw(content: records.Content, path: Path) -> None:
    """Draws time and temporaries of every form against the batch's size, a column a model."""
    panels: list[Any] = []
    for key, label in {"milliseconds": "a step, ms", "temporaries": "temporaries / params"}.items():
        for model in dict.fromkeys(row["model"] for row in content.rows):
            settings = {"title": model, "xlabel": "examples in a batch", "ylabel": label}
            lines = []
            for place, form in enumerate(one for one in forms.FORMS if one != forms.AGAIN):
                where = {"model": model, "form": form}.items()
                points = [(row["size"], row[key]) for row in content.rows if where <= row.items()]
                lines.append((form, f"{'osD^v'[place]}-", f"C{place}", points))
            panels.append((settings, lines))
    title = f"Clipping every example ({content.runs[0]['device']})"
    draw_lines(panels, title, path, rows=2)


def prepare(options: argparse.Namespace) -> Mapping[str, str]:
    """Tells the version of what is optional."""
    missing = forms.JAX_PRIVACY in forms.find_missing()
    return {forms.JAX_PRIVACY: "left out" if missing else version(forms.JAX_PRIVACY)}


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
    prepare=prepare,
    draw=draw,
)
