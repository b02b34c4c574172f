"""The registry of public methods: it drives the README's table, the command line and the tests."""

from __future__ import annotations

from clipax.catalogue import (
    _adaptive,
    _guards,
    _monitoring,
    _norms,
    _optimizers,
    _structured,
    _thresholds,
    _transforms,
    _updates,
)
from clipax.catalogue._entry import DIES, RECOVERS, Entry

__all__ = ["DIES", "ENTRIES", "RECOVERS", "Entry", "markdown_table"]

_ROOMS = (
    _thresholds,
    _norms,
    _transforms,
    _adaptive,
    _guards,
    _structured,
    _monitoring,
    _updates,
    _optimizers,
)

ENTRIES: dict[str, Entry] = {entry.name: entry for room in _ROOMS for entry in room.ENTRIES}


def markdown_table() -> str:
    """The catalogue as the table of the README, each name with a link to its docstring's file."""
    rows = ["| method | what it does | formula | source |", "| --- | --- | --- | --- |"]
    for entry in ENTRIES.values():
        source = f"{entry.paper}, arXiv {entry.arxiv}" if entry.arxiv else entry.paper
        file = f"{entry.factory.__module__.replace('.', '/')}.py"
        columns = (f"[`{entry.name}`]({file})", entry.summary, f"`{entry.formula}`", source)
        rows.append(f"| {' | '.join(columns)} |")
    return "\n".join(rows)
