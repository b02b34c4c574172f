"""Tests that an ordinary `pytest` leaves out, and `.ci/run` runs: those marked `thorough`.

They cost much, and most show for one more method, tree or dtype what others show. `pytest -m ""`
runs all tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

__all__ = ["thorough"]


def thorough(values: Iterable[Any], but: Iterable[Any]) -> list[Any]:
    """Mark the parameters of a test, but those that are (or are written as) one of `but`."""
    marked = []
    for value in values:
        whole = value if type(value) is tuple else (value,)  # a `Threshold` is one value
        kept = any(one in (value, str(value)) for one in but)
        marked.append(pytest.param(*whole, marks=() if kept else pytest.mark.thorough))
    return marked
