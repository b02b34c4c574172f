"""The registry of public methods: it drives the table in `docs/`, the command line and the tests.

A file a kind; the order within a file does not matter.
"""

from __future__ import annotations

from clipax.catalogue import _norms, _optimizers, _thresholds, _transforms
from clipax.catalogue._entry import DIES, RECOVERS, Entry
from clipax.catalogue._papers import PAPERS, Paper

__all__ = ["DIES", "ENTRIES", "PAPERS", "RECOVERS", "Entry", "Paper", "markdown_table"]

ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for kind in (_thresholds, _norms, _transforms, _optimizers)
    for entry in sorted(kind.ENTRIES, key=lambda entry: entry.name)
}
"""All methods by name, sorted by kind and name."""


def markdown_table() -> str:
    """Write the catalogue as a table for a page in `docs/`, each name linked to its file."""
    rows = ["| method | what it does | formula | source |", "| --- | --- | --- | --- |"]
    for entry in ENTRIES.values():
        file = f"../{entry.factory.__module__.replace('.', '/')}.py"
        formula = entry.formula.replace("|", r"\|")  # a bare one ends a cell, even in code
        columns = (f"[`{entry.name}`]({file})", entry.summary, f"`{formula}`", entry.source)
        rows.append(f"| {' | '.join(columns)} |")
    return "\n".join(rows)
