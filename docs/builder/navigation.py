"""The tables of contents: the lists of `index.md`, one chapter a bold line, and what is made."""

from __future__ import annotations

import re
from collections.abc import Mapping

from clipax.catalogue import ENTRIES
from docs.builder.files import DOCS
from docs.builder.sources import find_page

__all__ = ["add_contents", "list_chapters"]


def list_chapters() -> dict[str, dict[str, str]]:
    """Return the pages of each chapter: the first link of each line of a list in `index.md`.

    Raises:
      ValueError: A line has a link to something that is no page.
    """
    chapters: dict[str, dict[str, str]] = {}
    chapter: dict[str, str] = {}
    for line in (DOCS / "index.md").read_text().splitlines():
        if heading := re.match(r"\*\*(.+?)\*\*", line):
            chapter = chapters.setdefault(heading[1], {})
        elif link := re.match(r"- \[(.*?)\]\(([^)#]+)", line):
            page = find_page(DOCS, link[2])
            if page is None:
                raise ValueError(f"index.md lists {link[2]!r}, of which the site has no page.")
            chapter[page.rpartition(".")[0]] = link[1].replace("`", "")
    return chapters


def _write_contents(pages: Mapping[str, str], chapter: str = "") -> str:
    caption = [f":caption: {chapter}"] if chapter else []
    lines = [f"{title} </{page}>" for page, title in pages.items()]
    return "\n".join(["", "", "```{toctree}", ":hidden:", *caption, "", *lines, "```", ""])


def add_contents(app: object, docname: str, source: list[str]) -> None:
    """Add the tables of contents to the pages that have some."""
    if docname == "index":
        chapters = list_chapters() | {"Reference": {"api/index": "All public names"}}
        source[0] += "".join(_write_contents(pages, title) for title, pages in chapters.items())
    if docname == "methods":
        source[0] += _write_contents({f"method/{name}": name for name in ENTRIES})
