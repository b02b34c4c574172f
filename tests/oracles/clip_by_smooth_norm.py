"""The smooth clips: ``g / sqrt(1 + (n/c)^2)`` and its relatives."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at, by_step, norm, scale, zeros


def bent(size: float, threshold: float, response: str) -> float:
    """Compute the response to a norm, or to the magnitude of an entry."""
    if response == "sqrt":
        return size / math.sqrt(1.0 + (size / threshold) ** 2)
    if response == "rational":
        return size / (1.0 + size / threshold)
    if response == "tanh":
        return threshold * math.tanh(size / threshold)
    if response == "hard":
        return min(size, threshold)
    if size <= threshold / 2:
        return size
    if size >= 3 * threshold / 2:
        return threshold
    return size - (size - threshold / 2) ** 2 / (2 * threshold)


@oracle("clip_by_smooth_norm")
def clip_by_smooth_norm(
    gradients: Sequence[Tree], params: Tree, *, threshold: Schedule, response: str = "sqrt"
) -> Updates:
    """The gradient at the length that the response gives it."""

    def rule(gradient: Tree, step: int) -> Tree:
        size = norm(gradient)
        if size == 0.0:
            return zeros(gradient)
        return scale(bent(size, at(threshold, step), response) / size, gradient)

    return by_step(rule, gradients)
