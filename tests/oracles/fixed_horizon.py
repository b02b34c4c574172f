"""The threshold of the theorems for a known horizon, Sadiev et al. 2023 (arXiv 2302.00999)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at
from tests.oracles.clip_by_global_norm import clip_by_global_norm


@oracle("thresholds.fixed_horizon")
def fixed_horizon(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    radius: float,
    learning_rate: Schedule,
    steps: int,
    failure_probability: float,
    constant: float = 0.5,
) -> Updates:
    """``R/(c eta A)``, ``A = ln(4(K + 1)/delta)``."""
    spread = math.log(4.0) + math.log(steps + 1.0) - math.log(failure_probability)
    return clip_by_global_norm(
        gradients,
        params,
        max_norm=lambda step: radius / constant / at(learning_rate, step) / spread,
    )
