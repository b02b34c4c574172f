"""What was measured: rows in JSON with their runs, tables, and whether figures are reached."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HOLDS, NEAR, MISSED = "holds", "holds within the control's spread", "missed"

Row = dict[str, Any]
"""What was measured of one program: words that tell it from others, and numbers."""

Key = tuple[str, ...]
"""Words of a row: those alike in them were measured in turns, and are replaced together."""


class Finding(NamedTuple):
    """A figure to reach beside what was measured; `spread` is the control's, if there is one."""

    figure: str
    where: str
    limit: float
    value: float
    spread: float | None
    verdict: str


def judge(
    figure: str,
    where: str,
    value: float,
    limit: float,
    *,
    spread: float | None = None,
    at_least: bool = False,
) -> Finding:
    """Compares a measurement with a limit, which it may exceed by what its control strays."""
    excess = limit / value if at_least else value / limit if limit else 1.0 + value
    near = NEAR if excess <= 1 + (spread or 0.0) else MISSED
    return Finding(figure, where, limit, value, spread, HOLDS if excess <= 1 else near)


class Column(NamedTuple):
    """A column of a table: its title, the row's key, and how a number is written."""

    title: str
    key: str
    form: str = "{}"
    scale: float = 1.0

    def write(self, row: Row) -> str:
        """Returns the cell; an empty one where nothing was measured."""
        value = row.get(self.key)
        if value is None:
            return ""
        if isinstance(value, bool):
            return "yes" if value else "no"
        return self.form.format(value if self.scale == 1 else value * self.scale)


class Content(NamedTuple):
    """A file's content: the settings of each run, and rows whose `run` is the place of theirs."""

    runs: list[dict[str, str]]
    rows: list[Row]


FINDINGS = (
    Column("figure", "figure"),
    Column("where", "where"),
    Column("limit", "limit", "{:g}"),
    Column("measured", "value", "{:.4g}"),
    Column("control", "control"),
    Column("verdict", "verdict"),
)


def render_findings(findings: Iterable[Finding], *, markdown: bool = False) -> str:
    """Writes figures to reach as a table."""
    rows = [
        one._asdict() | {"control": "none" if one.spread is None else f"+-{one.spread:.3f}"}
        for one in findings
    ]
    return table(FINDINGS, rows, markdown=markdown)


def table(columns: Sequence[Column], rows: Iterable[Row], *, markdown: bool = False) -> str:
    """Writes rows as text or as Markdown, every column as wide as its widest cell."""
    lines = [[one.title for one in columns]]
    lines += [[one.write(row) for one in columns] for row in rows]
    if markdown:
        lines = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    ]
    if not markdown:
        return "\n".join("  ".join(line).rstrip() for line in padded)
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def group(rows: Iterable[Row], key: Key) -> Iterator[tuple[str, list[Row]]]:
    """Takes the rows apart by their words, in their order."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in key), []).append(row)
    for words, some in found.items():
        yield ", ".join(map(str, words)), some


def replace(old: Sequence[Row], new: Sequence[Row], key: Key) -> list[Row]:
    """Returns old rows and new ones, which take the place of those alike in the key, or the end."""

    def words(row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in key)

    rows: list[Row] = []
    waiting: dict[tuple[Any, ...], list[Row]] = {}
    for row in new:
        waiting.setdefault(words(row), []).append(row)
    known = set(waiting)
    for row in old:
        rows += waiting.pop(words(row), []) if words(row) in known else [row]
    return rows + [row for some in waiting.values() for row in some]


def merge(old: Content, settings: Mapping[str, str], rows: Sequence[Row], key: Key) -> Content:
    """Adds a further run to a file's content.

    All rows that are alike in the key with a new one are replaced, also of programs that the new
    run left out: what did not take turns with the rest is not comparable. Runs of which no row is
    left are dropped.

    Raises:
      ValueError: The file is of another device.
    """
    for one in old.runs:
        if one["device"] != settings["device"]:
            raise ValueError(
                f"`device` must be that of the file, {one['device']}, got {settings['device']}."
            )
    together = replace(old.rows, [{**row, "run": len(old.runs)} for row in rows], key)
    runs = [*old.runs, dict(settings)]
    places = {number: i for i, number in enumerate(sorted({row["run"] for row in together}))}
    return Content(
        [runs[number] for number in places],
        [row | {"run": places[row["run"]]} for row in together],
    )


def load(path: Path) -> Content:
    """Reads a file that `save` wrote."""
    return Content(**json.loads(path.read_text()))


def save(path: Path, content: Content) -> None:
    """Writes a file with numbers of five digits; it replaces an old one once it is whole."""
    rows = [
        {key: float(f"{one:.5g}") if isinstance(one, float) else one for key, one in row.items()}
        for row in content.rows
    ]
    new = path.with_name(f"{path.name}.new")
    new.write_text(dump({"runs": content.runs, "rows": rows}))
    new.replace(path)


def dump(content: Mapping[str, Any]) -> str:
    """Writes JSON with every item of a list on a line of its own, to be read in a diff."""
    parts = []
    for name, value in content.items():
        if isinstance(value, list) and value:
            text = "[\n  " + ",\n  ".join(json.dumps(one) for one in value) + "\n ]"
        else:
            text = json.dumps(value)
        parts.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
