"""Norms are counted; updates pass as they are."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Tree, Updates


@oracle("monitor_norms")
def monitor_norms(gradients: Sequence[Tree], params: Tree) -> Updates:
    """The gradients, finite or not."""
    return list(gradients)
