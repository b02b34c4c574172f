"""A threshold that grows with the exponent of the norms' tail index.

Hill 1975; Sadiev et al. 2023 (arXiv 2302.00999) for the exponents of the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.oracles._histogram import bin_of, middle
from tests.oracles._registry import oracle
from tests.oracles._tree import Tree, Updates, clip, is_remembered, norm, zeros
from tests.oracles.quantile import order_statistic

EXPONENTS = {
    "design": lambda alpha: 1 / (2 * alpha),
    "convex": lambda alpha: 1 / alpha,
    "nonconvex": lambda alpha: 1 / (3 * alpha - 2),
}


def tail_index(norms: Sequence[float], fraction: float) -> float:
    """The maximum of the likelihood of a geometric law of the bins above the tail's beginning.

    ``P(b) = (1 - q) q^b`` with ``q = exp(-alpha w)``: at the maximum the mean of ``b`` is
    ``q/(1 - q)``.
    """
    begins = bin_of(order_statistic(norms, 1 - fraction))
    above = [bin_of(size) - begins - 1 for size in norms if bin_of(size) > begins]
    if not sum(above):
        return math.inf
    mean = sum(above) / len(above)
    return -math.log(mean / (1 + mean)) / (math.log(2) / 8)


@oracle("thresholds.tail_power")
def tail_power(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    sigma: float | None = None,
    regime: str = "design",
    warmup: int = 500,
    fraction: float = 0.05,
) -> Updates:
    """``sigma t^p`` with the exponent of the tail index of the norms so far, or their median."""
    seen: list[float] = []
    updates = []
    for step, gradient in enumerate(gradients):
        if not is_remembered(gradient):
            updates.append(zeros(gradient))
            continue
        seen.append(norm(gradient))
        alpha = 2.0
        if len(seen) >= warmup:
            alpha = min(2.0, max(1.01, tail_index(seen, fraction)))
        scale = middle(order_statistic(seen, 0.5)) if sigma is None else sigma
        updates.append(clip(gradient, scale * (step + 1) ** EXPONENTS[regime](alpha)))
    return updates
