"""Writes what the pages say of the catalogue, and of the comparisons that are kept.

Run it with `python docs/write_tables.py` after a change of the catalogue, or a new `clipax compare
--out benchmarks/results/compare/digits` (`--task text` for `text`).
"""

from __future__ import annotations

import re
from pathlib import Path

from clipax import catalogue

__all__ = ["ROOT", "compared", "main", "replace", "tables"]

ROOT = Path(__file__).parents[1]


def compared(task: str) -> str:
    """The table of a comparison that is kept, and what it says."""
    summary = (ROOT / "benchmarks" / "results" / "compare" / task / "summary.md").read_text()
    _, table, *said = summary.split("\n\n")
    words = [text.strip() for text in said[: said.index(next(filter(_explains, said)))]]
    quoted = "\n>\n".join(f"> {line}" for text in words for line in text.splitlines() if line)
    return f"{table.strip()}\n\n{quoted}"


def _explains(paragraph: str) -> bool:
    return paragraph.strip().startswith("`loss` is")


def tables() -> list[tuple[str, str, str]]:
    """The page, the name of the markers, and what stands between them."""
    return [
        ("docs/methods.md", "methods", catalogue.markdown_table()),
        ("docs/compare.md", "digits", compared("digits")),
        ("docs/compare.md", "text", compared("text")),
    ]


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
    for page, name, content in tables():
        path = ROOT / page
        path.write_text(replace(path.read_text(), name, content))


if __name__ == "__main__":
    main()
