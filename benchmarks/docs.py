"""Writes tables out of results: for users into pages, with figures to reach for ourselves.

`docs/speed.md` has markers `<!-- speed:NAME begin -->` and `<!-- speed:NAME end -->` for each table
of `TABLES` that it shows, `docs/choose.md` and `docs/real_norms.md` such with `choose`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import choice_tables, paper_tables, speed_pictures
from benchmarks.choice_tables import RESULTS, load
from benchmarks.command import load_suite
from benchmarks.harness import records
from benchmarks.harness.records import Column, Row
from benchmarks.harness.trees import write_size
from benchmarks.suites.cases import CASES, CLIPAX, PEER, TWIN
from benchmarks.suites.figures import measure_spread
from benchmarks.suites.programs import join

ROOT = Path(__file__).parents[1]
SPEED, CHOOSE = ROOT / "docs" / "speed.md", ROOT / "docs" / "choose.md"
REAL_NORMS, PAPERS = ROOT / "docs" / "real_norms.md", ROOT / "docs" / "papers.md"

FILES = {
    **dict.fromkeys(("steps_cpu", "scopes", "methods_cpu"), "steps"),
    "collectives": "collectives",
    "per_example": "per-example",
    "simulate": "simulate",
    "faults": "faults",
    "tail_index": "tail-index",
    "programs_gpu": "programs",
    "programs_tpu": "programs",
    "pods": "pods",
    "training_gpu": "training",
    "training_tpu": "training",
    "noise": "noise",
    "choose": "choose",
}
"""The suite of each file of results."""

NAMED = ("leaf", "transformer")
SHOWN = ("sgd", "adam", "adagrad-norm", "leaf-norm", "agc")
_ARRAYS = (
    Column("one array, f32: traffic P", "leaf f32 traffic"),
    Column("bf16", "leaf bf16 traffic"),
)
_WORST = Column("temp. P, largest", "temporaries", "{:.2f}")
_METHODS = Column("method", "method"), Column("beside optax's", "peer")
PROGRAMS = {
    "gpu": (
        *_METHODS,
        Column("one array: kernels", "leaf f32 kernels"),
        Column("64 leaves: kernels", "layers f32 kernels"),
        *_ARRAYS,
        Column("64 leaves, f32", "layers f32 traffic"),
        _WORST,
        Column("waits of the host", "waits"),
    ),
    "tpu": (
        *_METHODS,
        *_ARRAYS,
        _WORST,
        Column("held", "held", "{:.3f}"),
        Column("conditionals", "waits"),
    ),
}
_MEMORY = Column("traffic, temp.", "memory"), Column("peer's", "peer memory")
STEPS = (
    Column("step", "step"),
    *_MEMORY,
    Column("time over the peer's", "over_peer", "{:.2f}"),
    Column("control", "control", "{:.2f}"),
    Column("±", "over_peer spread", "{:.2f}"),
)
SIZES = (
    Column("clip +", "step"),
    Column("least", "least", "{:.0f} P"),
    *_MEMORY,
    Column("time / limit", "over_limit", "{:.2f}"),
    Column("peer's", "peer over_limit", "{:.2f}"),
    Column("control ±", "over_limit spread", "{:.2f}"),
    Column("compile s", "compile_cpu_seconds", "{:.1f}"),
    Column("compile s, peer", "peer compile_cpu_seconds", "{:.1f}"),
)


def write_steps(columns: Sequence[Column], *, named: bool) -> str:
    """Writes a clipped step beside its peer's: on named trees, or on those of a million entries."""
    content, rows = load("steps_cpu"), list[Row]()
    for _, some in records.group(content.rows, ("case", "dtype", "tree")):
        here = {row["program"]: row for row in some}
        ours, peer = here[CLIPAX], here[PEER]
        if named and ours["tree"] in NAMED and ours["case"] in SHOWN:
            step = CASES[ours["case"]].summary, ours["dtype"], write_size(ours["tree"])
        elif not named and "x" in ours["tree"] and ours["entries"] >= 10**6:
            size = f"{ours['entries'] / 1e6:,.0f}M in {ours['leaves']:,}"
            step = ours["case"], ours["dtype"], size
        else:
            continue
        row = {f"peer {key}": value for key, value in peer.items()} | ours
        row |= {"memory": _describe_memory(ours), "peer memory": _describe_memory(peer)}
        row |= {"step": ", ".join(step), "control": here[TWIN]["over_clipax"]}
        keys = {"over_peer", "over_limit"} & ours.keys()
        rows.append(row | {f"{key} spread": measure_spread(here, key) for key in keys})
    about = dict.fromkeys(
        _describe_run(content.runs[run]) for run in sorted({row["run"] for row in rows})
    )
    return f"{records.table(columns, rows, markdown=True)}\n\nMeasured with {'; '.join(about)}."


def _describe_memory(row: Row) -> str:
    temporaries = f"{row['temporaries']:.2f} P" if row["temporaries"] >= 0.005 else "0"
    return f"{row['traffic']:.0f} P, {temporaries}"


def _describe_run(settings: dict[str, str]) -> str:
    known = (
        "jax",
        "libtpu",
        "jax-cuda12-plugin",
        "optax",
        "torch",
        "clipax",
        "commit",
        "date",
        "rounds",
        "repeats",
        "note",
    )
    words = [f"{key} {settings[key]}" for key in known if key in settings]
    return ", ".join([settings["device"], *words])


def write_programs(target: str) -> str:
    """Writes what every method's step is compiled to, and what optax's is: a row a method."""
    content = load(f"programs_{target}")
    cells: dict[str, Row] = {}
    for row in join(content.rows):
        cell = cells.setdefault(row["method"], {"method": row["method"], "peer": row["peer"]})
        for name in ("kernels", "traffic"):
            both = [round(row[one], 2) for one in (name, f"peer {name}") if one in row]
            cell[f"{row['tree']} {row['dtype']} {name}"] = " / ".join(f"{one:g}" for one in both)
        for name in ("waits", "temporaries", "held"):
            if name in row:
                cell[name] = max(row[name], cell.get(name, 0))
    about = "; ".join(dict.fromkeys(map(_describe_run, content.runs)))
    table = records.table(PROGRAMS[target], cells.values(), markdown=True)
    return f"{table}\n\nCompiled with {about}."


def write_suite(name: str) -> str:
    """Writes a file's tables as they are."""
    text = load_suite(FILES[name]).render(load(name), markdown=True, judged=False)
    return text.split("\n\n", 1)[1].rstrip().replace("\n## ", "\n### ")


TABLES: dict[str, Callable[[], str]] = {
    "steps": partial(write_steps, STEPS, named=True),
    "sizes": partial(write_steps, SIZES, named=False),
    "methods": partial(write_suite, "methods_cpu"),
    "scopes": partial(write_suite, "scopes"),
    "collectives": partial(write_suite, "collectives"),
    "per-example": partial(write_suite, "per_example"),
    "gpu": partial(write_programs, "gpu"),
    "tpu": partial(write_programs, "tpu"),
    "pods": partial(write_suite, "pods"),
    "training-gpu": partial(write_suite, "training_gpu"),
    "training-tpu": partial(write_suite, "training_tpu"),
    **choice_tables.TABLES,
    **paper_tables.TABLES,
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
        if found[2] not in TABLES:
            raise ValueError(f"There is no table {found[2]!r}: {', '.join(TABLES)}.")
        begin, end = (f"<!-- {found[1]}:{found[2]} {word} -->" for word in ("begin", "end"))
        return f"{begin}\n{TABLES[found[2]]()}\n{end}"

    pattern = r"<!-- (speed|choose|papers):([\w-]+) begin -->.*?<!-- \1:\2 end -->"
    return re.sub(pattern, replace, text, flags=re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the tables; with `--check` the exit status is 1 where a page is stale."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing: is it as it should?")
    options = parser.parse_args(arguments)
    pages = {RESULTS / "figures.md": write_figures()}
    pages |= {page: fill(page.read_text()) for page in (SPEED, CHOOSE, REAL_NORMS, PAPERS)}
    for name in ("faults", "tail_index"):
        text = load_suite(FILES[name]).render(load(name), markdown=True, judged=False)
        pages[RESULTS / f"{name}.md"] = text
    drawn = [name for name in speed_pictures.PICTURES if speed_pictures.is_stale(name)]
    for name in drawn:
        if not options.check:
            speed_pictures.write(name)
        print(f"{name}.svg: {'stale' if options.check else 'written'}", file=sys.stderr)
    stale = [page for page, text in pages.items() if not page.exists() or page.read_text() != text]
    for page in stale:
        if not options.check:
            page.write_text(pages[page])
        print(f"{page.name}: {'stale' if options.check else 'written'}", file=sys.stderr)
    return int(bool(stale or drawn) and options.check)
