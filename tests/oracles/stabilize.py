"""GradientStabilizer, "Fix the Norm, Not the Gradient" (arXiv 2502.17055v3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Tree, Updates, is_remembered, norm, scale, zeros


@oracle("norms.stabilize")
def stabilize(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    norm_decay: float = 0.7,
    square_decay: float = 0.9,
    eps: float = 1e-8,
) -> Updates:
    """``g/n m/(sqrt(v) + eps)``, with m and v the corrected averages of n and of its square."""
    mean, square, steps = 0.0, 0.0, 0
    updates = []
    for gradient in gradients:
        if not is_remembered(gradient):
            updates.append(zeros(gradient))
            continue
        size, steps = norm(gradient), steps + 1
        mean = norm_decay * mean + (1.0 - norm_decay) * size
        square = square_decay * square + (1.0 - square_decay) * size**2
        root = math.sqrt(square / (1.0 - square_decay**steps))
        stable = mean / (1.0 - norm_decay**steps) / (root + eps)
        updates.append(scale(stable / size, gradient))
    return updates
