"""The tables of contents: the lists of `index.md`, one chapter a bold line, and what is made."""

from __future__ import annotations

import re
from collections.abc import Iterable

from clipax.catalogue import ENTRIES
from docs.builder.files import DOCS
from docs.builder.sources import find_page

__all__ = ["add_contents", "list_chapters"]


def list_chapters() -> dict[str, list[str]]:
    """Return the pages of each chapter: the first link of each line of a list in `index.md`."""
    chapters: dict[str, list[str]] = {}
    chapter: list[str] = []
    for line in (DOCS / "index.md").read_text().splitlines():
        if heading := re.match(r"\*\*(.+?)\*\*", line):
            chapter = chapters.setdefault(heading[1], [])
        elif link := re.match(r"- \[.*?\]\(([^)#]+)", line):
            page = find_page(DOCS, link[1])
            if page is None:
                raise ValueError(f"index.md lists {link[1]!r}, of which the site has no page.")
            chapter.append(page.rpartition(".")[0])
    return chapters


def _write_contents(pages: Iterable[str], title: str = "") -> str:
    lines = ["", "", "```{toctree}", ":hidden:", *([f":caption: {title}"] if title else []), ""]
    return "\n".join([*lines, *(f"/{page}" for page in pages), "```", ""])


def add_contents(app: object, docname: str, source: list[str]) -> None:
    """Add the tables of contents to the pages that have some."""
    if docname == "index":
        chapters = list_chapters()
        source[0] += "".join(_write_contents(pages, title) for title, pages in chapters.items())
        source[0] += _write_contents(["api/index"], "Reference")
    if docname == "methods":
        source[0] += _write_contents(f"method/{name}" for name in ENTRIES)
