"""Writes measurements as text or Markdown.

`python -m benchmarks.report` puts those of `results/` into the README.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from benchmarks import readme
from benchmarks.cases import BARE, CASES, CLIPAX, PEER
from benchmarks.measure import Record
from benchmarks.targets import Finding
from benchmarks.timing import Ratio

__all__ = ["main", "render"]

_COLUMNS = (
    "program",
    "traffic P",
    "temp. P",
    "reductions",
    "compile s",
    "step ms",
    "/ unclipped",
    "/ peer",
    "/ clipax",
)
_FINDINGS = ("figure", "tree", "limit", "measured", "A/A control", "verdict")
_TREES = {"leaf": "one leaf", "transformer": "transformer-like", "many": "2,000 leaves"}

Table = tuple[Sequence[str], list[list[str]]]


def render(
    records: Sequence[Record],
    findings: Sequence[Finding],
    settings: Mapping[str, str],
    *,
    markdown: bool = False,
) -> str:
    """The whole report.

    Args:
      records: What was measured, repeats pooled.
      findings: The figures to reach beside the measurements.
      settings: Versions, device, date and options of the run.
      markdown: Whether to write Markdown instead of plain text.

    Returns:
      The text, with a final line break.
    """
    heading = "## {}" if markdown else "== {} =="
    parts = ["# What a step costs" if markdown else "What a step costs"]
    parts.append(", ".join(f"{name} {value}" for name, value in settings.items()))
    for tree, dtype in dict.fromkeys((one.tree, one.dtype) for one in records):
        parts.append(heading.format(f"{_TREES[tree]}, {dtype}"))
        here = [one for one in records if (one.tree, one.dtype) == (tree, dtype)]
        for case in dict.fromkeys(one.case for one in here):
            title = f"{case}: {CASES[case].summary}; peer: {CASES[case].peer}"
            rows = [_row(one) for one in here if one.case == case]
            parts += [f"**{title}**" if markdown else title, _table((_COLUMNS, rows), markdown)]
    if findings:
        parts.append(heading.format("Figures to reach"))
        parts.append(_table((_FINDINGS, [_finding_row(one) for one in findings]), markdown))
    return "\n\n".join(parts) + "\n"


def _row(record: Record) -> list[str]:
    return [
        record.program,
        f"{record.traffic:.2f}",
        f"{record.temporaries:.2f}",
        str(record.reductions),
        f"{record.compile_seconds:.2f}",
        f"{1e3 * record.step_seconds:.1f}",
        *(_ratio(record.ratios.get(role)) for role in (BARE, PEER, CLIPAX)),
    ]


def _ratio(ratio: Ratio | None) -> str:
    return "" if ratio is None else f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"


def _finding_row(finding: Finding) -> list[str]:
    target = finding.target
    what = {
        "traffic": "traffic, P",
        "temporaries": "temporaries, P",
        "time": f"time / {_name(target.over, target.case)}",
        "compile": f"compile time / {_name(target.over, target.case)}",
    }[target.quantity]
    program = "" if target.program == CLIPAX else f" ({target.program})"
    control = "" if finding.control is None else f"{finding.control:.3f} +-{finding.spread:.3f}"
    return [
        f"{target.case}{program}: {what}",
        f"{_TREES[finding.tree]}, {finding.dtype}",
        f"{target.limit:g}",
        f"{finding.value:.3f}",
        control,
        finding.verdict,
    ]


def _name(role: str, case: str) -> str:
    return CASES[case].peer.removesuffix(" (reference.py)") if role == PEER else role


def _table(table: Table, markdown: bool) -> str:
    columns, rows = table
    lines = [list(columns), *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]

    def write(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if place == 0 or columns is _FINDINGS else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |" if markdown else "  ".join(padded).rstrip()

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([write(columns), *([rule] if markdown else []), *map(write, rows)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the README's tables of the step cost.

    Args:
      arguments: Command line; by default the process's own.

    Returns:
      The exit status: 0, or with `--check` 1 where the README differs.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description="Puts results into the README."
    )
    parser.add_argument("--check", action="store_true", help="change nothing: is it as it should?")
    options = parser.parse_args(arguments)
    old = readme.README.read_text()
    new = readme.replaced(old, readme.block())
    if not options.check:
        readme.README.write_text(new)
    elif new != old:
        print("The README's tables differ: python -m benchmarks.report", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
