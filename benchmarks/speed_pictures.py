"""Draws the pictures of docs/speed.md out of the results: a method's cost beside optax's."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from html import unescape
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.choice_tables import load
from benchmarks.harness import records
from benchmarks.suites.cases import CLIPAX, PEER
from benchmarks.suites.programs import join

FOLDER = Path(__file__).parents[1] / "docs" / "static"
_OURS, _THEIRS, _LINE = "#1f6fb4", "#c8503c", "#999999"


class Pair(NamedTuple):
    """A row of a picture: what is measured, and the two numbers."""

    name: str
    clipax: float
    optax: float


def list_times() -> list[Pair]:
    """Lists the time of a clipped step over the least that a CPU takes, by size and optimizer."""
    pairs = []
    for _, rows in records.group(load("steps_cpu").rows, ("case", "dtype", "tree")):
        here = {row["program"]: row for row in rows}
        ours, peer = here[CLIPAX], here[PEER]
        if "x" in ours["tree"] and ours["entries"] >= 10**6 and "over_limit" in ours:
            size = f"{ours['entries'] / 1e6:,.0f}M in {ours['leaves']:,}"
            name = f"{ours['case']}, {ours['dtype']}, {size}"
            pairs.append(Pair(name, ours["over_limit"], peer["over_limit"]))
    return pairs


def list_kernels() -> list[Pair]:
    """Lists the kernels of a step on 64 leaves of float32, compiled for a GPU.

    Methods that agree in both numbers share a row, which names the first of them.
    """
    names: dict[tuple[float, float], list[str]] = {}
    for row in join(load("programs_gpu").rows):
        if row["tree"] == "layers" and row["dtype"] == "f32" and "peer kernels" in row:
            names.setdefault((row["kernels"], row["peer kernels"]), []).append(row["method"])
    pairs = []
    for counts, (first, *others) in sorted(names.items()):
        more = f", {len(others)} other{'s' * (len(others) > 1)}" if others else ""
        pairs.append(Pair(first + more, *counts))
    return pairs


def draw(pairs: Sequence[Pair], label: str) -> str:
    """Draws a row for each pair, as SVG; its description holds the numbers."""
    with mpl.rc_context({"svg.hashsalt": label, "svg.fonttype": "path", "font.size": 8}):
        figure = Figure(figsize=(4.6, 0.9 + 0.17 * len(pairs)), layout="constrained")
        figure.set_facecolor("white")  # in the dark too
        axes = figure.subplots()
        places = range(len(pairs))
        ours, theirs = [one.clipax for one in pairs], [one.optax for one in pairs]
        axes.hlines(places, ours, theirs, color=_LINE, lw=1)
        axes.plot(theirs, places, "D", ms=4, color=_THEIRS, label="optax")
        axes.plot(ours, places, "o", ms=4.5, color=_OURS, label="clipax")
        axes.set(xscale="log", xlabel=label, ylim=(len(pairs) - 0.5, -0.5))
        axes.set_yticks(places, [one.name for one in pairs])
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        figure.legend(loc="outside upper right", ncols=2, frameon=False)
        file = io.StringIO()
        told = {"Date": None, "Description": _describe(pairs)}
        figure.savefig(file, format="svg", facecolor="white", metadata=told)
    return file.getvalue()


def _describe(pairs: Sequence[Pair]) -> str:
    return json.dumps(pairs)


PICTURES: dict[str, tuple[Callable[[], list[Pair]], str]] = {
    "speed_cpu": (list_times, "time of a step over the limit"),
    "speed_gpu": (list_kernels, "kernels of a step on 64 leaves"),
}


def is_stale(name: str) -> bool:
    """Tells whether a picture is missing, or has other numbers than the results.

    Not the picture itself is compared: Matplotlib's releases draw it differently.
    """
    path = FOLDER / f"{name}.svg"
    if not path.exists():
        return True
    found = re.search(r"<dc:description>(.*?)</dc:description>", path.read_text(), re.DOTALL)
    return found is None or unescape(found[1]) != _describe(PICTURES[name][0]())


def write(name: str) -> None:
    """Draws a picture and writes it beside the pages."""
    list_pairs, label = PICTURES[name]
    (FOLDER / f"{name}.svg").write_text(draw(list_pairs(), label))
