"""Tables, figures to reach and the picture of `benchmarks.sweep`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

__all__ = [
    "BARE",
    "COPY",
    "FOREACH",
    "FUSED",
    "MISSED",
    "OPTAX",
    "OURS",
    "READ",
    "TWIN",
    "Finding",
    "Row",
    "aligned",
    "draw",
    "judge",
    "places",
    "render",
    "short",
    "spread",
]

Row = dict[str, Any]
"""One program on one tree, as it stands in the JSON."""

BARE, READ, COPY = "unclipped", "one read", "copy"
OPTAX, OURS, TWIN = "optax", "clipax", "clipax, again"
FUSED, FOREACH = "torch, fused", "torch, foreach"
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
    """A figure to reach beside what was measured; `spread` is the control's, if there is one."""

    where: str
    figure: str
    limit: float
    value: float
    spread: float | None
    verdict: str


def render(rows: Sequence[Row], settings: Mapping[str, str]) -> str:
    """The tables and the figures to reach, as text.

    Args:
      rows: What was measured.
      settings: Versions, device, date and options of the run.
    """
    parts = [", ".join(f"{name} {value}" for name, value in settings.items())]
    for where, here in places(rows):
        lines = [[title for title, _, _ in _COLUMNS]]
        lines += [[_cell(one, key, form) for _, key, form in _COLUMNS] for one in here.values()]
        parts.append(f"{where}\n{aligned(lines)}")
    findings = [["figure", "where", "limit", "measured", "control", "verdict"]]
    for one in judge(rows, settings["device"]):
        control = "none" if one.spread is None else f"+-{one.spread:.3f}"
        numbers = (f"{one.limit:g}", f"{one.value:.3f}", control)
        findings.append([one.figure, one.where, *numbers, one.verdict])
    parts.append(f"Figures to reach\n{aligned(findings)}")
    return "\n\n".join(parts) + "\n"


def places(rows: Sequence[Row]) -> Iterator[tuple[str, dict[str, Row]]]:
    """What was measured on each tree, by program."""
    found: dict[tuple[str, str, int, int], dict[str, Row]] = {}
    for one in rows:
        where = one["optimizer"], one["dtype"], one["entries"], one["leaves"]
        found.setdefault(where, {})[one["program"]] = one
    for (optimizer, dtype, entries, leaves), here in found.items():
        yield f"{optimizer}, {dtype}, {short(entries)} entries, {leaves} leaves", here


def short(number: int) -> str:
    """A number with all digits that are not zeros at its end, such as 2.56e8."""
    return f"{Decimal(number).normalize():e}".replace("e+", "e")


def spread(here: Mapping[str, Row], key: str) -> float | None:
    """How far the A/A control strays, the worse of two: by the same program, and in the figure.

    Where the steps of thousands of small leaves happen to lie in memory makes a program's times
    fall into two groups. The median of the ratios to its twin can then be 1 by chance, while either
    is compared with other programs in a group of its own.

    Args:
      here: What was measured on one tree, by program.
      key: What a figure is judged by, such as `over_limit`.

    Returns:
      The spread as a share of 1, or None where the twin was left out.
    """
    if TWIN not in here:
        return None
    ours, twin = here[OURS], here[TWIN]
    return max(abs(twin["over_clipax"] - 1), abs(twin[key] / ours[key] - 1))


def judge(rows: Sequence[Row], device: str) -> list[Finding]:
    """Compares measurements with the figures to reach: on CPUs some, on all else another.

    Counts and times to compile have no control, and figures beside programs that were left out are
    skipped.

    Args:
      rows: What was measured.
      device: What `environment` of `measure.py` calls the device, such as "cpu: cpu".
    """
    figures = _on_cpus if device.split(":")[0] == "cpu" else _on_gpus
    return [one for where, here in places(rows) for one in figures(where, here)]


def _on_cpus(where: str, here: Mapping[str, Row]) -> Iterator[Finding]:
    """All from a million entries on.

    Below that a step takes as long as its launch, and partial sums are a share of the tree.
    """
    ours = here[OURS]
    if ours["entries"] < 10**6:
        return
    adam = ours["optimizer"] == "adam"
    lossless = ours["dtype"] == "f32" or not adam
    # Without a control: name, limit, measured. With one: name, limit, the ratio's key.
    counts, times = list[tuple[str, float, float]](), list[tuple[str, float, str]]()
    if ours["leaves"] < 1000:
        # A copy of the tree for Adam in bfloat16, and what partial sums may take everywhere.
        counts.append(("temporaries, P", 0.01 if lossless else 1.01, ours["temporaries"]))
        if lossless:
            times.append(("time / (unclipped + one read)", 1.1, "over_limit"))
    if OPTAX in here:
        times.append(("time / optax's", 1.0, "over_optax"))
        compiling = ours["compile_cpu_seconds"] / here[OPTAX]["compile_cpu_seconds"]
        if ours["leaves"] >= 4000 and not adam:
            counts.append(("compile time / optax's", 0.3, compiling))
        elif ours["leaves"] >= 2000 and adam:
            counts.append(("compile time / optax's", 0.8, compiling))
    if ours["leaves"] >= 2000 and adam:
        times.append(("time / unclipped", 1.2, "over_unclipped"))
    for figure, limit, value in counts:
        yield _finding(where, figure, limit, value, None, value / limit)
    for figure, limit, key in times:
        yield _finding(where, figure, limit, ours[key], spread(here, key), ours[key] / limit)


def _on_gpus(where: str, here: Mapping[str, Row]) -> Iterator[Finding]:
    """Clip + Adam moves what it must move nearly as fast as the device copies."""
    ours, key, least = here[OURS], "share_of_copy", 0.9
    adam = (ours["optimizer"], ours["dtype"]) == ("adam", "f32")
    if adam and ours["entries"] >= 256 * 10**6:
        figure, excess = "share of a copy's speed, at least", least / ours[key]
        yield _finding(where, figure, least, ours[key], spread(here, key), excess)


def _finding(
    where: str, figure: str, limit: float, value: float, error: float | None, excess: float
) -> Finding:
    """With the verdict; the figure holds up to an `excess` of 1."""
    near = NEAR if excess <= 1 + (error or 0.0) else MISSED
    return Finding(where, figure, limit, value, error, HOLDS if excess <= 1 else near)


def draw(rows: Sequence[Row], runs: Sequence[Mapping[str, str]], path: Path) -> None:
    """Draws cost against size and compile time against leaves; says so where it cannot.

    Args:
      rows: What was measured.
      runs: Settings of the runs, for the title.
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
    colors = {BARE: "0.6", OPTAX: "C1", OURS: "C0", FUSED: "C2", FOREACH: "C4"}
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
    for panel in axes:
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=8)
    about = "; ".join(dict.fromkeys(f"{one['device']}, jax {one['jax']}" for one in runs))
    figure.suptitle(f"{about}; circles: one leaf, squares: 150")
    figure.savefig(path, dpi=110)


def _cell(row: Row, key: str, form: str) -> str:
    if key not in row:
        return ""
    value = row[key]
    return form.format(value if isinstance(value, str) else value * _SCALES.get(key, 1))


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as text, every column as wide as its widest cell."""
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
