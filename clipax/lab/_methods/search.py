"""Finds methods by their names, usual names and papers."""

from __future__ import annotations

import re

from clipax._twins import TWINS, list_usual_names
from clipax.catalogue import ENTRIES, PAPERS, Entry

__all__ = ["FUNCTIONS", "find_exact", "find_function", "search"]

FUNCTIONS = tuple(dict.fromkeys(twin for twin in TWINS.values() if twin not in ENTRIES))
"""Public functions with usual names that make no entry of the catalogue: `clipped_grad`."""


def find_exact(word: str) -> Entry | None:
    """Find the method of that name or usual name; None where it is of none or of several."""
    wanted = _simplify(word)
    found = [entry for entry in ENTRIES.values() if _simplify(entry.name) == wanted]
    found = found or [
        entry
        for entry in ENTRIES.values()
        if wanted in map(_simplify, (entry.name.partition(".")[2], *list_usual_names(entry.name)))
    ]
    return found[0] if len(found) == 1 else None


def find_function(word: str) -> str | None:
    """Find the function outside of the catalogue of that name or usual name."""
    wanted = _simplify(word)
    for name in FUNCTIONS:
        if wanted in map(_simplify, (name, *list_usual_names(name))):
            return name
    return None


def search(word: str) -> list[Entry]:
    """Find the methods with a word in their name, usual names, first line or papers."""
    wanted = _simplify(word)
    return [entry for entry in ENTRIES.values() if any(wanted in text for text in _texts(entry))]


def _texts(entry: Entry) -> list[str]:
    papers = [PAPERS[key] for key in entry.papers]
    texts = [entry.name, *entry.variants, *list_usual_names(entry.name), entry.summary]
    for paper in papers:
        texts += [paper.authors, paper.title, str(paper)]
    return [_simplify(text) for text in texts]


def _simplify(text: str) -> str:
    """Leave out case, a module, and everything between letters: `delta-GClip` is `delta_gclip`."""
    return re.sub(r"^(clipax|optax|torch)\.|[^a-z0-9]", "", text.lower())
