"""ZClip, "ZClip: Adaptive Spike Mitigation for LLM Pre-Training" (arXiv 2504.02507)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Tree, Updates, clip, is_finite, norm, zeros


@oracle("clip_by_zscore", "thresholds.zscore")
def zscore(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    z: float = 2.5,
    decay: float = 0.97,
    warmup: int = 25,
    cut_to: str = "adaptive",
    max_norm: float | None = None,
    eps: float = 1e-6,
    floor: float = 0.02,
    restart: float = 1e-2,
) -> Updates:
    """Norms whose z-score exceeds ``z`` are cut; the statistics are fed with what is left."""
    first: list[float] = []
    mean = variance = 0.0
    before = False
    updates = []
    for gradient in gradients:
        if not is_finite(gradient):
            updates.append(zeros(gradient))
            continue
        size = norm(gradient)
        cap = math.inf if max_norm is None else max_norm
        if size > 0.0:
            low = bool(first) and size < restart * mean
            high = 0 < len(first) < warmup and restart * size > mean
            alone = low and not before
            before = alone
            if high or (low and not alone):
                first = []
            if alone:
                updates.append(clip(gradient, cap))
                continue
        if len(first) < warmup:
            updates.append(clip(gradient, cap))
            if size > 0.0:
                first.append(size)
                mean = sum(first) / len(first)
                variance = sum((one - mean) ** 2 for one in first) / len(first)
            continue
        deviation = max(math.sqrt(variance), floor * mean)
        score = (size - mean) / (deviation + eps)
        entering = size
        if score > z:
            entering = {
                "adaptive": mean + z**2 / score * deviation,
                "hard": mean + z * deviation,
                "mean": mean,
            }[cut_to]
        updates.append(clip(gradient, min(entering, cap)))
        if size > 0.0:
            mean = decay * mean + (1 - decay) * entering
            variance = decay * variance + (1 - decay) * (entering - mean) ** 2
    return updates
