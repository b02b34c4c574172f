"""The registry in which oracles enter themselves under the names of their methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tests.oracles._tree import Oracle

ORACLES: dict[str, Oracle] = {}
"""The oracle of each entry of the catalogue."""

_Oracle = TypeVar("_Oracle", bound=Oracle)


def oracle(*names: str) -> Callable[[_Oracle], _Oracle]:
    """Register a function as the oracle of the catalogue entries with these names."""

    def register(function: _Oracle) -> _Oracle:
        for name in names:
            if name in ORACLES:
                raise ValueError(f"`{name}` has an oracle already.")
            ORACLES[name] = function
        return function

    return register
