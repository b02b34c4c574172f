"""Copies of the functions through which frameworks call an optimizer, written from their source.

The frameworks need more than the environment of the tests has. Where one is installed it is taken.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest

__all__ = ["install"]


def install(monkeypatch: pytest.MonkeyPatch, copy: ModuleType, *names: str) -> None:
    """Let `import` find a copy under the names of a framework's modules, where it is missing."""
    try:
        for name in names:
            importlib.import_module(name)
    except ImportError:
        for name in names:
            monkeypatch.setitem(sys.modules, name, copy)
            parent, _, child = name.rpartition(".")
            if parent:
                monkeypatch.setattr(sys.modules[parent], child, copy, raising=False)
