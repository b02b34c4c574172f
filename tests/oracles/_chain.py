"""Oracles one behind the other."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracles._tree import Oracle, Tree, Updates


def chain(gradients: Sequence[Tree], params: Tree, *, links: Sequence[Oracle]) -> Updates:
    """Each link is handed the updates of the one before: it measures the clipped gradient."""
    updates = list(gradients)
    for link in links:
        updates = link(updates, params)
    return updates
