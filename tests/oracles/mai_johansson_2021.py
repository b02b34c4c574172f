"""The smooth clip ``g / sqrt(1 + (n/c)^2)``."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.oracles._tree import Schedule, Tree, Updates, at, by_step, norm, scale


def clip_by_smooth_norm(gradients: Sequence[Tree], params: Tree, *, threshold: Schedule) -> Updates:
    """``g / sqrt(1 + (n/c)^2)``."""

    def rule(gradient: Tree, step: int) -> Tree:
        return scale(1.0 / math.sqrt(1.0 + (norm(gradient) / at(threshold, step)) ** 2), gradient)

    return by_step(rule, gradients)
