"""What the site has beside the pages of this folder: made in each build, never committed.

The pages of methods and of public names, copies of the notebooks and of the files above `docs/`,
the tables of contents, formulas as MathML and links to other projects' pages.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from docs.builder import elsewhere, formulas, mathml, method_pages, names, navigation, sources
from docs.builder.files import MADE, write

__all__ = ["setup"]


def make_pages(app: Any, config: Any) -> None:
    """Write all pages that are made, and remove those of a former build."""
    folder = Path(app.srcdir)
    pages = {**sources.list_pages(), **names.list_pages(), **method_pages.list_pages()}
    for made in MADE:
        for old in (folder / made).glob("*"):
            if old.relative_to(folder).as_posix() not in pages:
                old.unlink()
    for path, content in pages.items():
        write(folder / path, content)


def shorten_types(
    app: Any,
    what: str,
    name: str,
    value: Any,
    options: Any,
    signature: str | None,
    result: str | None,
) -> tuple[str | None, str | None]:
    """Write aliases of types by their names: Sphinx does not where they are parts of others."""
    pattern = r"TypeAliasForwardRef\('(\w+)'\)"
    return signature and re.sub(pattern, r"\1", signature), result and re.sub(
        pattern, r"\1", result
    )


def setup(app: Any) -> dict[str, bool]:
    """Join the build."""
    app.setup_extension("sphinx.ext.autodoc")
    # Sphinx keeps pages as this code has read them: other code reads all of them again.
    code = sorted(Path(__file__).parent.glob("*.py"))
    told = hashlib.sha256(b"".join(file.read_bytes() for file in code)).hexdigest()
    app.add_config_value("builder_code", told, "env")
    app.connect("config-inited", make_pages)
    app.connect("autodoc-process-signature", shorten_types)
    # Before napoleon, which makes fields of the arguments.
    app.connect("autodoc-process-docstring", formulas.mark_formulas, priority=400)
    app.connect("source-read", sources.rewrite_links)
    app.connect("source-read", navigation.add_contents)
    app.connect("doctree-read", names.add_anchors)
    app.connect("missing-reference", elsewhere.resolve)
    app.add_html_math_renderer(
        "mathml", (mathml.visit_inline, None), (mathml.visit_displayed, None)
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
