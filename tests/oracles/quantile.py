"""Thresholds at quantiles of the last norms, in a clip of the global norm.

Merad & Gaiffas 2024 (arXiv 2309.17316): an order statistic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at, clip, is_remembered, norm, scale, zeros


def order_statistic(norms: Sequence[float], probability: float) -> float:
    """The norm of rank ``ceil(p S)`` from 1, ``p`` read as the short decimal that it stands for."""
    share = Fraction(probability).limit_denominator(10**6)
    return sorted(norms)[max(1, math.ceil(share * len(norms))) - 1]


@oracle("thresholds.quantile", "clip_by_quantile")
def quantile(
    gradients: Sequence[Tree], params: Tree, *, quantile: Schedule, window: int = 100
) -> Updates:
    """The quantile of the last norms, the current one included."""
    seen: list[float] = []
    updates = []
    for step, gradient in enumerate(gradients):
        if not is_remembered(gradient):
            updates.append(zeros(gradient))
            continue
        seen.append(norm(gradient))
        updates.append(clip(gradient, order_statistic(seen[-window:], at(quantile, step))))
    return updates


@oracle("quantile_clip_sgd")
def quantile_clip_sgd(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    learning_rate: Schedule,
    quantile: Schedule,
    window: int = 100,
) -> Updates:
    """``-eta`` times the gradient clipped at the quantile."""
    clipped = _quantile(gradients, params, quantile=quantile, window=window)
    return [scale(-at(learning_rate, step), update) for step, update in enumerate(clipped)]


_quantile = quantile
