"""Where the pages are that a build makes, and how they are written."""

from __future__ import annotations

from pathlib import Path

__all__ = ["DOCS", "MADE", "ROOT", "write"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MADE = ("api", "method", "notebooks", "project")
"""Folders of `docs/` that git ignores."""


def write(path: Path, content: str | bytes) -> None:
    """Write a file, unless it has this content: then Sphinx need not read it again."""
    data = content.encode() if isinstance(content, str) else content
    if not path.exists() or path.read_bytes() != data:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
