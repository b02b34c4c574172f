"""Clipped gradient descent, "Why gradient clipping accelerates training" (arXiv 1905.11881)."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at, by_step, clip, norm, scale


@oracle("clip_sgd")
def clip_sgd(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    learning_rate: Schedule,
    threshold: Schedule,
    offset: float = 0.0,
) -> Updates:
    """``-eta min(1, c/(n + offset)) g``."""

    def rule(gradient: Tree, step: int) -> Tree:
        if offset == 0.0:
            return scale(-at(learning_rate, step), clip(gradient, at(threshold, step)))
        factor = min(1.0, at(threshold, step) / (norm(gradient) + offset))
        return scale(-at(learning_rate, step) * factor, gradient)

    return by_step(rule, gradients)
