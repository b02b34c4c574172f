"""Independent references: float64 NumPy loops written from the formulas of the papers.

A file carries the name of its method (of the first, where several share a loop) and registers its
oracles itself: `ORACLES` maps the name of a catalogue entry to its oracle. A threshold is used by a
clip of the global norm, and a decision on norms by `scale_by_norm`, so that every oracle has one
shape: `oracle(gradients, params, **keywords)` gives the update of each step.
"""

from __future__ import annotations

import importlib
import pkgutil

from tests.oracles._registry import ORACLES
from tests.oracles._tree import Oracle, Tree, Updates

__all__ = ["ORACLES", "Oracle", "Tree", "Updates"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
