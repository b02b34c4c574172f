"""Writes tables out of results: for users into docs/speed.md, with figures to reach for ourselves.

`docs/speed.md` has markers `<!-- speed:NAME begin -->` and `<!-- speed:NAME end -->` for each table
of `TABLES` that it shows.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.command import load_suite
from benchmarks.harness import records
from benchmarks.harness.records import Content, Row
from benchmarks.suites.cases import CASES, CLIPAX, PEER, TWIN
from benchmarks.suites.figures import measure_spread

ROOT = Path(__file__).parents[1]
SPEED, RESULTS = ROOT / "docs" / "speed.md", Path(__file__).parent / "results"
FIGURES = RESULTS / "figures.md"

FILES = {
    "steps_cpu": "steps",
    "scopes": "steps",
    "scopes_memory": "steps",
    "methods_cpu": "steps",
    "collectives": "collectives",
    "per_example": "per-example",
    "simulate": "simulate",
    "faults": "faults",
    "noise_tails": "tails",
    "tail_index": "tail-index",
}
"""The suite of each file of results."""

NAMED = ("sgd", "adam", "adagrad-norm", "leaf-norm", "agc")
TREES = {"leaf": "one leaf of 32M", "transformer": "148 leaves, 30M"}


def load(name: str) -> Content:
    """Reads a file of results."""
    return records.load(RESULTS / f"{name}.json", load_suite(FILES[name]).identity)


def write_steps() -> str:
    """Writes the table of named trees: what a step moves, and its time over the peer's."""
    content = load("steps_cpu")
    lines = []
    for _, rows in records.group(content.rows, ("case", "dtype", "tree")):
        here = {row["program"]: row for row in rows}
        case, dtype, tree = (rows[0][key] for key in ("case", "dtype", "tree"))
        if case not in NAMED or tree not in TREES:
            continue
        ours, peer = here[CLIPAX], here[PEER]
        spread = measure_spread(here, "over_peer")
        lines.append(
            [
                f"{CASES[case].summary}, {dtype}, {TREES[tree]}",
                *(_describe_memory(one) for one in (ours, peer)),
                f"{ours['over_peer']:.2f}",
                f"{here[TWIN]['over_clipax']:.2f} ± {spread:.2f}",
            ]
        )
    head = ["step", "traffic, temporaries", "peer's", "time over the peer's", "control"]
    return _finish(content, records.table(head, lines, markdown=True), lambda row: row in TREES)


def write_sizes() -> str:
    """Writes the table of trees of any size, from a million entries on."""
    content = load("steps_cpu")
    lines = []
    for _, rows in records.group(content.rows, ("case", "dtype", "tree")):
        here = {row["program"]: row for row in rows}
        ours, peer = here[CLIPAX], here.get(PEER)
        if "least" not in ours or "x" not in ours["tree"] or ours["entries"] < 10**6:
            continue
        control = measure_spread(here, "over_limit")
        lines.append(
            [
                f"{ours['case']}, {ours['dtype']}, "
                f"{ours['entries'] / 1e6:,.0f}M in {ours['leaves']:,}",
                f"{ours['least']:.0f} P",
                *(_describe_memory(one) if one else "-" for one in (ours, peer)),
                *(f"{one['over_limit']:.2f}" if one else "-" for one in (ours, peer)),
                "-" if control is None else f"{control:.2f}",
                *(f"{one['compile_cpu_seconds']:.1f}" if one else "-" for one in (ours, peer)),
            ]
        )
    head = ["clip +", "least", "traffic, temp.", "optax's", "time / limit", "optax's", "control ±"]
    head += ["compile s", "compile s, optax"]
    return _finish(content, records.table(head, lines, markdown=True), lambda row: "x" in row)


def _describe_memory(row: Row) -> str:
    kept = row["temporaries"]
    return f"{row['traffic']:.0f} P, " + (f"{kept:.2f} P" if kept >= 0.005 else "0")


def _finish(content: Content, table: str, wanted: Callable[[str], bool]) -> str:
    """The table and the runs that it is of."""
    runs = sorted({row["run"] for row in content.rows if wanted(row["tree"])})
    about = [_describe_run(content.runs[run]) for run in runs]
    return f"{table}\n\nMeasured with {'; '.join(dict.fromkeys(about))}."


def _describe_run(settings: dict[str, str]) -> str:
    known = ("jax", "optax", "torch", "clipax", "commit", "date", "rounds", "repeats", "note")
    words = [f"{key} {settings[key]}" for key in known if key in settings]
    return ", ".join([settings["device"], *words])


def write_suite(name: str) -> str:
    """Writes a file's tables as they are."""
    suite, content = load_suite(FILES[name]), load(name)
    text = suite.render(content, markdown=True, judged=False)
    return text.split("\n\n", 1)[1].rstrip().replace("\n## ", "\n### ")


TABLES: dict[str, Callable[[], str]] = {
    "steps": write_steps,
    "sizes": write_sizes,
    **{
        name.removesuffix("_cpu").replace("_", "-"): lambda name=name: write_suite(name)
        for name in ("methods_cpu", "scopes", "scopes_memory", "collectives", "per_example")
    },
}


def write_figures() -> str:
    """Writes what is reached and what is missed, by file."""
    parts = ["# Figures to reach", "By `python -m benchmarks docs`, from the files beside this."]
    for name, suite in FILES.items():
        content = load(name)
        if findings := load_suite(suite).judge_all(content):
            count = sum(one.verdict == records.MISSED for one in findings)
            parts.append(f"## {name}: {count} of {len(findings)} missed")
            parts += dict.fromkeys(_describe_run(one) for one in content.runs)
            parts.append(records.render_findings(findings, markdown=True))
    return "\n\n".join(parts) + "\n"


def fill(text: str) -> str:
    """Puts the tables between their markers."""

    def replace(found: re.Match[str]) -> str:
        if found[1] not in TABLES:
            raise ValueError(f"There is no table {found[1]!r}: {', '.join(TABLES)}.")
        begin, end = (f"<!-- speed:{found[1]} {word} -->" for word in ("begin", "end"))
        return f"{begin}\n{TABLES[found[1]]()}\n{end}"

    pattern = r"<!-- speed:([\w-]+) begin -->.*?<!-- speed:\1 end -->"
    return re.sub(pattern, replace, text, flags=re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the tables.

    Args:
      arguments: Command line; by default the process's own.

    Returns:
      The exit status: 0, or with `--check` 1 where a page is not as it would be written.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing: is it as it should?")
    parser.add_argument("--print", choices=TABLES, help="a table for docs/speed.md, nothing else")
    options = parser.parse_args(arguments)
    if options.print:
        print(TABLES[options.print]())
        return 0
    pages = {FIGURES: write_figures()}
    if SPEED.exists():
        pages[SPEED] = fill(SPEED.read_text())
    for name in ("faults", "tail_index"):
        text = load_suite(FILES[name]).render(load(name), markdown=True, judged=False)
        pages[RESULTS / f"{name}.md"] = text
    stale = [page for page, text in pages.items() if not page.exists() or page.read_text() != text]
    for page in stale:
        if not options.check:
            page.write_text(pages[page])
        print(
            f"{page.relative_to(ROOT)}: {'stale' if options.check else 'written'}", file=sys.stderr
        )
    return int(bool(stale) and options.check)
