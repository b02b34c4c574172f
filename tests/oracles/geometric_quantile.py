"""A threshold that moves by factors, Andrew et al. 2021 (arXiv 1905.03871)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at, clip, is_remembered, norm, zeros


@oracle("thresholds.geometric_quantile")
def geometric_quantile(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    quantile: Schedule = 0.5,
    initial: float = 0.1,
    learning_rate: float = 0.2,
) -> Updates:
    """``C <- C exp(-eta (b - q))`` after the clip at ``C``, ``b`` whether the norm was within."""
    threshold = initial
    updates = []
    for step, gradient in enumerate(gradients):
        if not is_remembered(gradient):
            updates.append(zeros(gradient))
            continue
        updates.append(clip(gradient, threshold))
        within = 1.0 if norm(gradient) <= threshold else 0.0
        threshold *= math.exp(-learning_rate * (within - at(quantile, step)))
    return updates
