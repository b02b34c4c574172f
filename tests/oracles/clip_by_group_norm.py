"""The clip of each group of leaves by itself, and then of all together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at, clip, is_finite, zeros


@oracle("clip_by_group_norm")
def clip_by_group_norm(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    threshold: Schedule,
    total: Schedule | None = None,
    labels: Callable[[str], str] | None = None,
) -> Updates:
    """Each group to ``c``, then what that leaves of all groups together to ``C``.

    A group is a leaf, or all leaves of one label; a bad one becomes zero, and counts as that.
    """
    updates = []
    for step, gradient in enumerate(gradients):
        groups: dict[str, Tree] = {}
        for path, leaf in gradient.items():
            groups.setdefault(labels(path) if labels else path, {})[path] = leaf
        update: Tree = {}
        for group in groups.values():
            update |= clip(group, at(threshold, step)) if is_finite(group) else zeros(group)
        updates.append(update if total is None else clip(update, at(total, step)))
    return updates
