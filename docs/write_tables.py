"""Writes what the pages say of the catalogue: names in README.md, the table in docs/methods.md.

Run it with `python docs/write_tables.py` after a change of the catalogue.
"""

from __future__ import annotations

import re
from pathlib import Path

from clipax import catalogue

__all__ = ["ROOT", "main", "names_by_kind", "tables"]

ROOT = Path(__file__).parents[1]
KINDS = {
    "threshold": "Thresholds, in `clipax.thresholds`",
    "norm": "Rules on norms, in `clipax.norms`",
    "transformation": "Transformations",
    "optimizer": "Optimizers",
}


def names_by_kind() -> str:
    """The names of all methods as a list, one line a kind."""
    lines = []
    for kind, title in KINDS.items():
        entries = (entry for entry in catalogue.ENTRIES.values() if entry.kind == kind)
        names = sorted(entry.name.rpartition(".")[-1] for entry in entries)
        lines.append(f"- {title}: {', '.join(f'`{name}`' for name in names)}")
    return "\n".join(lines)


def tables() -> dict[str, tuple[str, str]]:
    """By page: the name of the markers, and what stands between them."""
    return {
        "README.md": ("names", names_by_kind()),
        "docs/methods.md": ("methods", catalogue.markdown_table()),
    }


def replace(text: str, name: str, content: str) -> str:
    """The text with `content` between the markers `name`.

    Raises:
      ValueError: The markers are not there exactly once.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the page must have {begin} and {end} once each")
    pattern = f"{re.escape(begin)}.*{re.escape(end)}"
    return re.sub(pattern, lambda _: f"{begin}\n{content}\n{end}", text, flags=re.DOTALL)


def main() -> None:
    """Writes the tables into their pages."""
    for page, (name, content) in tables().items():
        path = ROOT / page
        path.write_text(replace(path.read_text(), name, content))


if __name__ == "__main__":
    main()
