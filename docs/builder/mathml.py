"""Formulas as MathML: browsers show it without a script, so without a network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

__all__ = ["translate", "visit_displayed", "visit_inline"]

_log = logging.getLogger(__name__)
_ACCENTED = re.compile(r"\\(?:hat|tilde|bar)\s*(?:\{[^{}]*\}|\\[a-zA-Z]+|\w)(?=\s*[_^])")


def translate(formula: str) -> str:
    """Write a formula so that docutils reads what LaTeX reads."""
    # Else docutils puts an index under a letter that has an accent.
    return _ACCENTED.sub(r"\g<0>{}", formula)


def _render(node: Any, displayed: bool) -> str:
    try:
        return tex2mathml(translate(node.astext()), as_block=displayed)
    except MathError as error:
        _log.warning("cannot render %r: %s", node.astext(), error, location=node)
        return ""


def visit_inline(self: Any, node: Any) -> None:
    """Write a formula in a sentence."""
    self.body.append(_render(node, displayed=False))
    raise nodes.SkipNode


def visit_displayed(self: Any, node: Any) -> None:
    """Write a formula on a line of its own."""
    self.body.append(f'<div class="math">{_render(node, displayed=True)}</div>')
    raise nodes.SkipNode
