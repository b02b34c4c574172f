"""The threshold of the theorems for an unknown horizon, Nguyen et al. 2023 (arXiv 2304.01119)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Tree, Updates
from tests.oracles.clip_by_global_norm import clip_by_global_norm


@oracle("thresholds.anytime")
def anytime(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    sigma: float,
    alpha: float,
    regime: str = "nonconvex",
    gamma: float = 1.0,
) -> Updates:
    """``sigma (2t(1 + ln t)^2)^(1/(3p-2))`` or ``(52 t (1 + ln t)^2 sigma^p/gamma)^(1/p)``."""

    def threshold(step: int) -> float:
        t = step + 1.0
        if regime == "convex":
            return float(
                (52.0 * t * (1.0 + math.log(t)) ** 2 * sigma**alpha / gamma) ** (1 / alpha)
            )
        return float(sigma * (2.0 * t * (1.0 + math.log(t)) ** 2) ** (1 / (3 * alpha - 2)))

    return clip_by_global_norm(gradients, params, max_norm=threshold)
