"""Writes the tables of docs/choose.md out of results and logged norms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks import norms
from benchmarks.harness import records
from benchmarks.harness.records import Column, Content, Row
from benchmarks.suites import choose, logs, noise

RESULTS = Path(__file__).parent / "results"
CONSTANT = 1.0
"""The threshold that is looked at by phase of a run."""

CHOICES = (
    Column("your case", "case"),
    Column("use", "use"),
    Column("logs", "logs"),
    Column("text", "share", "{:.0%}"),
    Column("first 100", "first"),
)
COSTS = (
    Column("use", "use"),
    Column("CPU", "cpu", "{:.2f}"),
    Column("kernels", "kernels"),
    Column("traffic", "traffic", "{:.0f} P"),
)
PHASES = (
    Column("run", "run"),
    Column("steps", "steps"),
    Column("median norm", "median", "{:.2g}"),
    Column("clipped", "share", "{:.0%}"),
    Column("smallest factor", "smallest", "{:.2g}"),
)


def load(name: str) -> Content:
    """Reads a file of results."""
    return records.load(RESULTS / f"{name}.json")


def _costs() -> dict[str, Row]:
    """What each method's step costs, by its name: on a CPU, and compiled for a GPU."""
    costs: dict[str, Row] = {}
    for row in load("methods_cpu").rows:
        name = row["program"].removeprefix("clipax/")
        costs.setdefault(name, {})["cpu"] = row["over_limit"]
    for row in load("programs_gpu").rows:
        if row["tree"] == "layers" and row["dtype"] == "f32":
            costs.setdefault(row["method"], {}).update(
                kernels=row["kernels"], traffic=row["traffic"]
            )
    return costs


def _range(shares: Sequence[float]) -> str:
    """Writes the least and the largest of shares."""
    low, high = min(shares), max(shares)
    return f"{low:.0%}" if low == high else f"{100 * low:.0f} to {high:.0%}"


def _write_first(row: Row) -> str:
    """Writes the share of the first steps that are clipped, and the smallest factor there."""
    return f"{row['first share']:.0%}, {row['first smallest']:.2g}"


def write_choices() -> str:
    """Writes what each row of the table that says which clip to use cuts."""
    measured, rows = load("choose").rows, []
    for choice in choose.CHOICES:
        found = {row["on"]: row for row in measured if row["use"] == choice.use}
        live = found[choose.LIVE]
        row = live | {"case": choice.case, "use": f"`{choice.use}`", "first": _write_first(live)}
        if shares := [found[name]["share"] for name in choose.REPLAYED if name in found]:
            row["logs"] = _range(shares)
        rows.append(row)
    return records.table(CHOICES, rows, markdown=True)


def write_costs() -> str:
    """Writes what each of these rows costs."""
    costs = _costs()
    rows = [{"use": f"`{one.use}`"} | costs[one.method] for one in choose.CHOICES]
    return records.table(COSTS, rows, markdown=True)


def _by_log(names: Iterable[str], write: Callable[[Row], str | None]) -> str:
    """Writes a cell for each clip that was replayed and each log."""
    rows: dict[str, Row] = {}
    for row in load("choose").rows:
        if row["on"] in names:
            cells = rows.setdefault(row["use"], {"use": f"`{row['use']}`"})
            cells[row["on"]] = write(row)
    titles = {**choose.REPLAYED, choose.TEXT: "text"}
    columns = [Column("use", "use"), *(Column(titles[name], name) for name in names)]
    return records.table(columns, rows.values(), markdown=True)


def write_real_norms() -> str:
    """Writes which share of a run's steps each clip would have cut."""
    return _by_log((*choose.REPLAYED, choose.TEXT), lambda row: f"{row['share']:.0%}")


def write_first_steps() -> str:
    """Writes what each clip would have done in the first hundred steps."""
    names = dict.fromkeys(
        row["on"]
        for row in load("choose").rows
        if "first share" in row and row["on"] != choose.LIVE
    )
    return _by_log(tuple(names), _write_first)


def write_phases() -> str:
    """Writes what a constant threshold of 1 does by phase of a run."""
    rows = []
    for log in norms.load(norms.PUBLIC):
        for stretch in log.stretches if log.every == 1 and len(log.stretches[0].norms) > 50 else ():
            cut = choose.FIRST if stretch.first <= 1 else len(stretch.norms)
            for begin, sizes in ((0, stretch.norms[:cut]), (cut, stretch.norms[cut:])):
                if len(sizes):
                    first = stretch.first + begin
                    rows.append(
                        {
                            "run": log.name,
                            "steps": f"{first:,} to {first + len(sizes) - 1:,}",
                            "median": float(np.median(sizes)),
                            "share": float(np.mean(sizes > CONSTANT)),
                            "smallest": min(1.0, CONSTANT / float(sizes.max())),
                        }
                    )
    return records.table(PHASES, rows, markdown=True)


def _leave_out(columns: Sequence[Column], *keys: str) -> list[Column]:
    """Returns the columns that a page has room for."""
    return [one for one in columns if one.key not in keys]


def write_logs(path: Path) -> str:
    """Writes how far the norms of runs stray from those before them."""
    rows = [logs.describe(one) for one in norms.load(path)]
    columns = [
        one
        for one in _leave_out(logs.COLUMNS, "99.9 %", "zero")
        if any(row.get(one.key) is not None for row in rows)
    ]
    return records.table(columns, rows, markdown=True)


def write_sources() -> str:
    """Writes where the public logs are from."""
    columns = Column("run", "name"), Column("of", "kind"), Column("what is known", "about")
    rows = [one._asdict() for one in norms.load(norms.PUBLIC)]
    return records.table(columns, rows, markdown=True)


def write_noise() -> str:
    """Writes whether the noise of our own runs is in the norm or in single entries."""
    columns = _leave_out(noise.COLUMNS, "part", "largest", "largest entry")
    rows = [row for row in load("noise").rows if "part" not in row]
    return records.table(columns, rows, markdown=True)


def write_noise_by_part() -> str:
    """Writes the same of the parts of each built-in task's model, in the middle of the run."""
    columns = _leave_out(noise.COLUMNS, "place", "largest", "largest entry")
    rows = [row for row in load("noise").rows if "part" in row]
    return records.table(columns, rows, markdown=True)


def write_noise_kinds() -> str:
    """Writes which kind of noise each built-in task has, along its run."""
    kinds: dict[str, Row] = {}
    for row in load("noise").rows:
        if row.get("task") and "part" not in row:
            kinds.setdefault(row["of"], {"of": row["of"]})[row["place"]] = row["heavy"]
    columns = [Column("task", "of"), *(Column(place, place) for place in noise.PLACES)]
    return records.table(columns, kinds.values(), markdown=True)


TABLES: dict[str, Callable[[], str]] = {
    "choices": write_choices,
    "costs": write_costs,
    "phases": write_phases,
    "real-norms": write_real_norms,
    "first-steps": write_first_steps,
    "logs": lambda: write_logs(norms.PUBLIC),
    "own-runs": lambda: write_logs(norms.OWN),
    "sources": write_sources,
    "noise": write_noise,
    "noise-by-part": write_noise_by_part,
    "noise-kinds": write_noise_kinds,
}
