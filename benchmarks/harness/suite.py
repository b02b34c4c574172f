"""What a command of `python -m benchmarks` is: options, a measurement, tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import records
from benchmarks.harness.records import Column, Content, Finding, Key, Row


@dataclass(frozen=True)
class Suite:
    """A command of `python -m benchmarks`.

    Attributes:
      about: What it measures, one line.
      key: Words of a row that a table is of.
      columns: Of the tables.
      measure: From the command's options to rows, as they are measured.
      judge: From rows and the device to the figures to reach.
      add_options: Adds options of its own, by a parser's `add_argument`.
      rounds: Samples of each time unless asked for; 0: none are taken.
      prepare: From the options to what else a run is to remember, before JAX starts.
      title: From the first row of a table to what its title says behind the key.
      apart: A word of a row beside the key, where a row does not depend on what was measured beside
        it, as with counts of a program: such rows are replaced one by one.
    """

    about: str
    key: Key
    columns: Sequence[Column]
    measure: Callable[[argparse.Namespace], Iterator[list[Row]]]
    judge: Callable[[Sequence[Row], str], Iterable[Finding]] = lambda rows, device: ()
    add_options: Callable[[Any], None] = lambda add: None
    rounds: int = 0
    prepare: Callable[[argparse.Namespace], Mapping[str, str]] = lambda options: {}
    title: Callable[[Row], str] = lambda row: ""
    apart: str | None = None

    @property
    def merged_by(self) -> Key:
        """Words of rows that are replaced together; where all are one table, of each by itself."""
        if self.apart is not None:
            return (*self.key, self.apart)
        return self.key or (self.columns[0].key,)

    def render(self, content: Content, *, markdown: bool = False, judged: bool = True) -> str:
        """Writes the runs, a table for each value of the key, and the figures to reach."""
        marks = ["", "# ", "## "] if markdown else [""] * 3
        parts = [f"{marks[1]}{self.about}"] if markdown else []
        parts += [
            ", ".join(f"{name} {value}" for name, value in run.items()) for run in content.runs
        ]
        for _, rows in records.group(content.rows, self.key):
            where = ", ".join(f"{name} {rows[0][name]}" for name in self.key)
            if title := ": ".join(word for word in (where, self.title(rows[0])) if word):
                parts.append(f"{marks[2]}{title}")
            columns = [one for one in self.columns if any(one.key in row for row in rows)]
            parts.append(records.table(columns, rows, markdown=markdown))
        if judged and (findings := self.judge_all(content)):
            parts.append(f"{marks[2]}Figures to reach")
            parts.append(records.render_findings(findings, markdown=markdown))
        return "\n\n".join(parts) + "\n"

    def judge_all(self, content: Content) -> list[Finding]:
        """Judges all rows, of whatever run."""
        return list(self.judge(content.rows, content.runs[0]["device"])) if content.runs else []


def count(text: str) -> int:
    """Reads a whole number of at least 1."""
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1, got {text!r}")
    return int(text)
