"""Stable-SPAM: entries and norms of gradients made ordinary, then Adam with resets.

Steps are counted from 1 and the moments are zero again at the multiples of ``reset``. A tensor that
is not finite is left out and does not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at, is_finite, zeros


@oracle("stable_spam")
def stable_spam(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    learning_rate: Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    norm_decay: float = 0.7,
    square_decay: float = 0.9,
    peak_decay: float = 0.999,
    reset: int | None = 1000,
    weight_decay: float | None = None,
) -> Updates:
    """Entries above the average peak rescaled, the norm made ``mean/(root mean square + eps)``."""
    updates = [zeros(gradient) for gradient in gradients]
    for path, param in params.items():
        peak, mean, square, seen, t, age = 0.0, 0.0, 0.0, 0, 0, 0
        m, v = np.zeros_like(param), np.zeros_like(param)
        for step, gradient in enumerate(gradients):
            g = gradient[path]
            if not is_finite({path: g}):
                continue
            t, age = t + 1, age + 1
            largest = float(np.max(np.abs(g), initial=0.0))
            if largest > 0.0:
                seen += 1
                peak = peak_decay * peak + (1.0 - peak_decay) * largest
                limit = peak / (1.0 - peak_decay**seen)
                g = np.where(np.abs(g) > limit, g / largest * limit, g)
                size = math.sqrt(float(np.sum(g**2)))
                mean = norm_decay * mean + (1.0 - norm_decay) * size
                square = square_decay * square + (1.0 - square_decay) * size**2
                typical = mean / (1.0 - norm_decay**seen)
                typical /= math.sqrt(square / (1.0 - square_decay**seen)) + eps
                g = g / size * typical
            if reset is not None and t % reset == 0:
                m, v, age = np.zeros_like(param), np.zeros_like(param), 1
            m = b1 * m + (1.0 - b1) * g
            v = b2 * v + (1.0 - b2) * g**2
            direction = m / (1.0 - b1**age) / (np.sqrt(v / (1.0 - b2**age)) + eps)
            direction += (weight_decay or 0.0) * param
            updates[step][path] = -at(learning_rate, step) * direction
    return updates
