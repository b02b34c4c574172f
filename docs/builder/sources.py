"""Pages from files that stand elsewhere in the repository, and links that hold in both places."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from clipax.catalogue import ENTRIES
from docs.builder.files import DOCS, ROOT

__all__ = ["COPIES", "find_page", "list_pages", "rewrite_links"]

COPIES = {
    "README.md": "project/start.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
}
"""The pages of files above `docs/`."""
_ORIGINALS = {page: file for file, page in COPIES.items()}
_FENCE = re.compile(r"^(`{3,}).*?^\1$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


def list_pages() -> dict[str, str | bytes]:
    """Return the copies by their path in `docs/`."""
    pages: dict[str, str | bytes] = {
        page: (ROOT / file).read_text() for file, page in COPIES.items()
    }
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        pages[f"notebooks/{notebook.name}"] = notebook.read_bytes()
    return pages


def find_page(folder: Path, target: str) -> str | None:
    """Return the path in `docs/` of what a link in `folder` leads to; None if that is no page."""
    file = Path(posixpath.normpath((folder / target).as_posix()))
    name = file.relative_to(ROOT).as_posix()
    if name in COPIES:
        return COPIES[name]
    if file.parent == DOCS and file.suffix == ".md":
        return file.name
    if file.suffix == ".ipynb":
        return f"notebooks/{file.name}"
    if file.is_dir() and name.startswith("clipax/"):
        return f"api/{name.replace('/', '.')}.rst"
    return None


def rewrite_links(app: Any, docname: str, source: list[str]) -> None:
    """Lead the links of a Markdown page to pages of the site, and to copies of other files."""
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".md":
        return
    folder = ROOT if f"{docname}.md" in _ORIGINALS else DOCS

    def rewrite(found: re.Match[str]) -> str:
        words, target = found.groups()
        file, mark, anchor = target.partition("#")
        if "://" in target or not file:
            return found[0]
        method = words.strip("`")
        if file.endswith(".py") and method in ENTRIES:
            return f"[{words}](/method/{method}.rst)"
        if page := find_page(folder, file):
            return f"[{words}](/{page}{mark}{anchor})"
        away = posixpath.relpath((folder / file).as_posix(), path.parent.as_posix())
        return f"[{words}](path:{away})"

    # What stands between fences is code.
    text, parts, end = source[0], list[str](), 0
    for fence in _FENCE.finditer(text):
        parts += [_LINK.sub(rewrite, text[end : fence.start()]), fence[0]]
        end = fence.end()
    source[0] = "".join([*parts, _LINK.sub(rewrite, text[end:])])
