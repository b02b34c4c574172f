"""ACClip: each entry of the momentum cut at a moving power mean of what was seen there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at, is_finite, zeros


@oracle("acclip")
def acclip(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    learning_rate: Schedule,
    b1: float = 0.9,
    b2: float = 0.99,
    alpha: float = 1.0,
    eps: float = 1e-5,
) -> Updates:
    """``-eta min(1, tau/(|m| + eps)) m`` with ``tau^a <- b2 tau^a + (1 - b2)|g|^a``."""
    momentum, powers = zeros(gradients[0]), zeros(gradients[0])
    updates = []
    for step, gradient in enumerate(gradients):
        update = zeros(gradient)
        if is_finite(gradient):
            for path, leaf in gradient.items():
                momentum[path] = b1 * momentum[path] + (1.0 - b1) * leaf
                powers[path] = b2 * powers[path] + (1.0 - b2) * np.abs(leaf) ** alpha
                ratio = powers[path] ** (1.0 / alpha) / (np.abs(momentum[path]) + eps)
                update[path] = -at(learning_rate, step) * np.minimum(ratio, 1.0) * momentum[path]
        updates.append(update)
    return updates
