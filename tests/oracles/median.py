"""The clip of Zipformer's ScaledAdam: a multiple of the median of the last norms (2310.11230)."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Tree, Updates, clip, is_remembered, norm, zeros


@oracle("thresholds.median", "clip_by_median")
def median(
    gradients: Sequence[Tree], params: Tree, *, scale: float = 2.0, window: int = 100
) -> Updates:
    """``scale`` times the lower median of the last norms, the current one included."""
    seen: list[float] = []
    updates = []
    for gradient in gradients:
        if not is_remembered(gradient):
            updates.append(zeros(gradient))
            continue
        seen.append(norm(gradient))
        last = sorted(seen[-window:])
        updates.append(clip(gradient, scale * last[(len(last) + 1) // 2 - 1]))
    return updates
