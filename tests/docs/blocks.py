"""The blocks of code on the pages; needs nothing that an environment of a framework lacks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["FENCE", "NEEDS", "NOT_RUN", "ROOT", "python_blocks"]

ROOT = Path(__file__).parents[2]

FENCE = re.compile(r"^(`{3,})([^\n]*)\n(.*?)^\1$", re.DOTALL | re.MULTILINE)
# The first line of a block that cannot run here: why, or the framework that it needs. The latter
# run in `test_frameworks.py` and `tests/clients`.
NOT_RUN, NEEDS = "# not run: ", "# needs: "


def python_blocks(text: str) -> Iterator[tuple[int, str]]:
    """The code of all blocks marked as Python, each with the number of lines above it."""
    for found in FENCE.finditer(text):
        if found[2] == "python":
            yield text.count("\n", 0, found.start(3)), found[3]
