"""Runs a benchmark: `python -m benchmarks NAME [options]`; without a name it lists them."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SUITES = {
    "steps": "what a training step costs, on named trees and on trees of any size",
    "methods": "what a step of every method of the catalogue costs, beside plain SGD",
    "scopes": "how long a clip of every leaf takes to compile, beside the global norm",
    "collectives": "what a clip sums up over devices",
    "per-example": "what clipping every example's gradient takes",
    "simulate": "how many noisy steps a second `clipax.lab.simulate` runs",
    "faults": "what becomes of a method once its gradients go wrong",
    "tail-index": "how well the tail index of norms is estimated",
    "logs": "how far the norms of real training stray from those before them",
    "noise": "is the noise of a gradient in its norm or in single entries?",
    "choose": "the rows of the table that says which clip to use, on real norms and live",
    "programs": "what every step is compiled to on a TPU or a GPU",
    "pods": "what a clip takes on whole TPU pods, for 7 and 70 billion parameters",
    "training": "what a clip adds to a whole training step on a TPU or a GPU",
    "docs": "tables out of results, into pages and results/; --check: are they there?",
}
"""Name and question; the module has the same name, and is imported when it is asked for."""

PRESETS = {
    "methods": ("steps", "--cases methods --trees 4e6x8 --dtypes f32 --rounds 7"),
    "scopes": ("steps", "--cases scopes --trees many --counts"),
}
"""Names for parts of others; options behind them go first."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a benchmark; the exit status is 1 where a figure is missed, 2 for bad arguments."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print("python -m benchmarks NAME [options]; NAME --help tells the options\n")
        for name, question in SUITES.items():
            print(f"  {name:12} {question}")
        print("\npython -m benchmarks.papers: the figures of the papers")
        return 0
    name, *rest = arguments
    if name not in SUITES:
        print(f"There is no benchmark {name!r}: {', '.join(SUITES)}.", file=sys.stderr)
        return 2
    if name == "docs":
        from benchmarks import docs

        return docs.main(rest)
    name, preset = PRESETS.get(name, (name, ""))
    suite = load_suite(name)
    return run(suite, _make_parser(name, suite), [*preset.split(), *rest])


def load_suite(name: str) -> Any:
    """Imports a benchmark, and what it needs."""
    return importlib.import_module(f"benchmarks.suites.{name.replace('-', '_')}").SUITE


def run(suite: Any, parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Measures, prints and writes; `--show` prints what a file holds."""
    from benchmarks.harness import records
    from benchmarks.harness.compile import environment

    options = parser.parse_args(arguments)
    old, rows = records.Content([], []), list[records.Row]()
    settings: dict[str, str] = {}
    try:  # now, not after an hour
        for path in (options.json, options.markdown):
            if path is not None and not os.access(path.parent, os.W_OK):
                parser.error(f"cannot write {path}: `{path.parent}` must be a folder")
        if options.merge and options.json is None:
            parser.error("--merge needs --json PATH")
        if options.show or (options.merge and options.json.exists()):
            old = records.load(options.show or options.json)
        if not options.show:
            prepared = suite.prepare(options)  # before JAX starts
            settings = {**environment(), **prepared}
            if suite.rounds:
                settings["rounds"] = str(options.rounds)
            records.merge(old, settings, rows, suite.merged_by)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    content = new = old
    start = time.monotonic()
    for some in suite.measure(options) if not options.show else ():
        rows = records.replace(rows, some, suite.merged_by)
        settings["minutes"] = f"{(time.monotonic() - start) / 60:.1f}"
        new = records.merge(records.Content([], []), settings, rows, suite.merged_by)
        content = records.merge(old, settings, rows, suite.merged_by)
        if options.json is not None:  # after each tree: who stops it keeps what there is
            records.save(options.json, content)
    print(suite.render(new), end="")
    if options.markdown is not None:
        options.markdown.write_text(suite.render(content, markdown=True))
    return int(any(one.verdict == records.MISSED for one in suite.judge_all(new)))


def _make_parser(name: str, suite: Any) -> argparse.ArgumentParser:
    from benchmarks.harness.suite import count

    about = f"Measures {suite.about}."
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=about)
    add = parser.add_argument
    suite.add_options(add)
    if suite.rounds:
        about = f"samples of each; default {suite.rounds}"
        add("--rounds", type=count, default=suite.rounds, help=about)
    add("--json", type=Path, help="write what was measured")
    add("--merge", action="store_true", help="keep what --json PATH holds of all else")
    add("--markdown", type=Path, help="write the tables")
    add("--show", type=Path, help="measure nothing: print what this file holds")
    return parser
