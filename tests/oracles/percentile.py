"""AutoClip: Seetharaman et al. 2020 (arXiv 2007.14469), with what this library does with memory."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracles._histogram import middle
from tests.oracles._registry import oracle
from tests.oracles._tree import Tree, Updates, clip, is_remembered, norm, zeros
from tests.oracles.quantile import order_statistic


@oracle("thresholds.percentile", "clip_by_percentile")
def percentile(
    gradients: Sequence[Tree], params: Tree, *, percentile: float = 10.0, window: int = 1000
) -> Updates:
    """The percentile of all norms so far, of more than ``window`` norms the middle of its bin."""
    seen: list[float] = []
    updates = []
    for gradient in gradients:
        if not is_remembered(gradient):
            updates.append(zeros(gradient))
            continue
        seen.append(norm(gradient))
        threshold = order_statistic(seen, percentile / 100)
        updates.append(clip(gradient, threshold if len(seen) <= window else middle(threshold)))
    return updates
