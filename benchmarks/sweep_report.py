"""Tables, figures to reach and the picture of `benchmarks.sweep`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = [
    "BARE",
    "COPY",
    "MISSED",
    "OPTAX",
    "OURS",
    "READ",
    "TWIN",
    "Finding",
    "Row",
    "draw",
    "judge",
    "render",
]

Row = dict[str, Any]
"""One program on one tree, as it stands in the JSON."""

BARE, READ, COPY = "unclipped", "one read", "copy"
OPTAX, OURS, TWIN = "optax", "clipax", "clipax, again"
HOLDS, NEAR, MISSED = "holds", "holds within the control's spread", "missed"

_COLUMNS = (
    ("program", "program", "{}"),
    ("least P", "minimum", "{:.0f}"),
    ("traffic P", "traffic", "{:.2f}"),
    ("temp. P", "temporaries", "{:.3f}"),
    ("peak P", "peak", "{:.2f}"),
    ("reductions", "reductions", "{:.0f}"),
    ("compile CPU s", "compile_cpu_seconds", "{:.2f}"),
    ("step ms", "step_seconds", "{:.3f}"),
    ("/ unclipped", "over_unclipped", "{:.2f}"),
    ("/ limit", "over_limit", "{:.2f}"),
    ("/ optax", "over_optax", "{:.2f}"),
    ("GB/s", "bytes_per_second", "{:.1f}"),
    ("of a copy", "share_of_copy", "{:.2f}"),
)
_SCALES = {"step_seconds": 1e3, "bytes_per_second": 1e-9}


class Finding(NamedTuple):
    """A figure to reach beside what was measured; `spread`: how far the control is from 1."""

    where: str
    figure: str
    limit: float
    value: float
    spread: float
    verdict: str


def render(rows: Sequence[Row], settings: Mapping[str, str]) -> str:
    """The tables and the figures to reach, as text.

    Args:
      rows: What was measured.
      settings: Versions, device, date and options of the run.
    """
    parts = [", ".join(f"{name} {value}" for name, value in settings.items())]
    for where, here in _places(rows):
        lines = [[title for title, _, _ in _COLUMNS]]
        lines += [[_cell(one, key, form) for _, key, form in _COLUMNS] for one in here.values()]
        parts.append(f"{where}\n{_aligned(lines)}")
    findings = [["figure", "where", "limit", "measured", "control", "verdict"]]
    for one in judge(rows):
        numbers = (f"{one.limit:g}", f"{one.value:.3f}", f"+-{one.spread:.3f}")
        findings.append([one.figure, one.where, *numbers, one.verdict])
    parts.append(f"Figures to reach\n{_aligned(findings)}")
    return "\n\n".join(parts) + "\n"


def judge(rows: Sequence[Row]) -> list[Finding]:
    """Compares what was measured with the figures to reach.

    Counts have no control. Times are judged for trees of a million entries and more: below that a
    step takes as long as its launch.
    """
    findings = []
    for where, here in _places(rows):
        ours, optax, bare = here[OURS], here[OPTAX], here[BARE]
        spread = abs(here[TWIN]["over_clipax"] - 1)
        big = ours["entries"] >= 10**6
        few = ours["leaves"] < 1000
        lossless = ours["dtype"] == "f32" or ours["optimizer"] == "sgd"
        figures: list[tuple[str, float, float, float]] = []
        if big and few:
            most = 0.01 if lossless else 1.01
            figures.append(("temporaries, P", most, ours["temporaries"], 0.0))
            if lossless:
                figures.append(("time / (unclipped + one read)", 1.1, ours["over_limit"], spread))
            figures.append(("time / optax's", 1.0, ours["over_optax"], spread))
        compiling = ours["compile_cpu_seconds"] / optax["compile_cpu_seconds"]
        if ours["leaves"] >= 4000 and ours["optimizer"] == "sgd":
            figures.append(("compile time / optax's", 0.3, compiling, 0.0))
        elif ours["leaves"] >= 2000 and ours["optimizer"] == "adam":
            figures.append(("compile time / optax's", 0.8, compiling, 0.0))
            over = ours["step_seconds"] / bare["step_seconds"]
            figures.append(("time / unclipped", 1.2, over, spread))
        for figure, limit, value, error in figures:
            near = NEAR if value <= limit * (1 + error) else MISSED
            verdict = HOLDS if value <= limit else near
            findings.append(Finding(where, figure, limit, value, error, verdict))
    return findings


def draw(rows: Sequence[Row], settings: Mapping[str, str], path: Path) -> None:
    """Draws cost against size and compile time against leaves; says so where it cannot.

    Args:
      rows: What was measured.
      settings: For the title.
      path: An image file.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("No picture: matplotlib is not installed.", file=sys.stderr)
        return
    kinds = list(dict.fromkeys((one["optimizer"], one["dtype"]) for one in rows))
    figure = Figure(figsize=(4.2 * (len(kinds) + 1), 3.9), layout="constrained")
    axes = figure.subplots(1, len(kinds) + 1, squeeze=False)[0]
    colors = {BARE: "0.6", OPTAX: "C1", OURS: "C0", "torch": "C2"}
    for panel, (optimizer, dtype) in zip(axes, kinds, strict=False):
        here = [one for one in rows if (one["optimizer"], one["dtype"]) == (optimizer, dtype)]
        for program, color in colors.items():
            for single, style in ((True, "o-"), (False, "s:")):
                chosen = [
                    one
                    for one in here
                    if one["program"] == program
                    and one["leaves"] <= 150
                    and (one["leaves"] == 1) is single
                ]
                chosen.sort(key=lambda one: one["entries"])
                if chosen:
                    x = [one["entries"] for one in chosen]
                    y = [one["over_limit"] for one in chosen]
                    label = program if single else None
                    panel.plot(x, y, style, color=color, label=label, markersize=4)
        panel.axhline(1, color="black", linewidth=0.8)
        panel.set(xscale="log", yscale="log", xlabel="entries")
        panel.set(title=f"{optimizer}, {dtype}", ylabel="time / (unclipped + one read)")
        panel.legend(fontsize=8)
    for program, color in colors.items():
        pairs = sorted(
            (one["leaves"], one["compile_cpu_seconds"])
            for one in rows
            if one["program"] == program
            and one["optimizer"] == "sgd"
            and one["dtype"] == "f32"
            and "compile_cpu_seconds" in one
        )
        if pairs:
            axes[-1].plot(*zip(*pairs, strict=True), "o", color=color, label=program, markersize=4)
    axes[-1].set(xscale="log", yscale="log", xlabel="leaves", ylabel="compile, CPU seconds")
    axes[-1].set_title("sgd, f32")
    axes[-1].legend(fontsize=8)
    figure.suptitle(f"{settings['device']}, jax {settings['jax']}; circles: one leaf, squares: 150")
    figure.savefig(path, dpi=110)


def _places(rows: Sequence[Row]) -> Iterator[tuple[str, dict[str, Row]]]:
    """What was measured on each tree, by program."""
    places: dict[str, dict[str, Row]] = {}
    for one in rows:
        entries = f"{one['entries']:.0e}".replace("e+0", "e")
        where = f"{one['optimizer']}, {one['dtype']}, {entries} entries, {one['leaves']} leaves"
        places.setdefault(where, {})[one["program"]] = one
    yield from places.items()


def _cell(row: Row, key: str, form: str) -> str:
    if key not in row:
        return ""
    value = row[key]
    return form.format(value if isinstance(value, str) else value * _SCALES.get(key, 1))


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
