"""Normalised gradient descent, "Why gradient clipping accelerates training" (1905.11881)."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at, by_step, norm, scale


@oracle("normalized_sgd")
def normalized_sgd(
    gradients: Sequence[Tree], params: Tree, *, learning_rate: Schedule, eps: float
) -> Updates:
    """``-eta g / (n + eps)``."""

    def rule(gradient: Tree, step: int) -> Tree:
        return scale(-at(learning_rate, step) / (norm(gradient) + eps), gradient)

    return by_step(rule, gradients)
