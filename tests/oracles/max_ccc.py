"""The threshold with the largest criterion, "To clip or not to clip" (arXiv 2406.11733)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at, clip, is_remembered, norm, scale, zeros


def criterion(norms: Sequence[float], threshold: float) -> float:
    """``F(c)^2 mean(n^2) / mean(min(n^2, c^2))``, with all norms in units of ``c``."""
    share = sum(value <= threshold for value in norms) / len(norms)
    clipped = math.fsum(min(value / threshold, 1.0) ** 2 for value in norms)
    return share**2 * math.fsum((value / threshold) ** 2 for value in norms) / clipped


def best_threshold(norms: Sequence[float], min_fraction: float = 0.1) -> float:
    """The candidate where the criterion is largest; infinity where it exceeds 1 nowhere."""
    best, highest = math.inf, 1.0 + 1e-9
    for candidate in sorted(norms):
        inside = sum(value <= candidate for value in norms)
        if inside < max(10.0, min_fraction * len(norms) - 1e-9):
            continue
        value = criterion(norms, candidate)
        if value > highest:
            best, highest = candidate, value
    return best


@oracle("thresholds.max_ccc")
def max_ccc(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    window: int = 500,
    min_fraction: float = 0.1,
    compensate: bool = False,
) -> Updates:
    """Clips at the best threshold; compensated, times one over the share within."""
    seen: list[float] = []
    updates = []
    for gradient in gradients:
        if not is_remembered(gradient):
            updates.append(zeros(gradient))
            continue
        seen.append(norm(gradient))
        last = seen[-window:]
        threshold = best_threshold(last, min_fraction)
        share = sum(value <= threshold for value in last) / len(last)
        updates.append(scale(1.0 / share if compensate else 1.0, clip(gradient, threshold)))
    return updates


max_ccc_clip = oracle("norms.max_ccc_clip")(functools.partial(max_ccc, compensate=True))


@oracle("max_ccc_sgd")
def max_ccc_sgd(
    gradients: Sequence[Tree], params: Tree, *, learning_rate: Schedule, window: int = 500
) -> Updates:
    """``-eta`` times the clipped and compensated gradient."""
    clipped = max_ccc_clip(gradients, params, window=window)
    return [scale(-at(learning_rate, step), update) for step, update in enumerate(clipped)]
