"""SPAM: Adam without spikes, its moments reset every so many steps.

Steps are counted from 1 and the moments are zero again at the multiples of ``reset``. A gradient
that is not finite is left out and does not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at, is_finite, zeros


@oracle("spam")
def spam(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    learning_rate: Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    theta: float = 5000.0,
    reset: int | None = 500,
    warmup: int | None = 150,
    weight_decay: float | None = None,
    clip_from: int = 20,
) -> Updates:
    """``sign(g) sqrt(theta v)`` where ``g^2 > theta v`` and ``v > 0``, then Adam."""
    updates = [zeros(gradient) for gradient in gradients]
    m, v, t = zeros(params), zeros(params), 0
    for step, gradient in enumerate(gradients):
        if not is_finite(gradient):
            continue
        t += 1
        since = t if reset is None else t % reset
        if since == 0:
            m, v = zeros(params), zeros(params)
        scale = 1.0
        if reset is not None and t >= reset and since < (warmup or 0):
            scale = 1.0 - 0.99 * (1.0 + math.cos(math.pi * since / ((warmup or 0) + 1))) / 2.0
        for path, param in params.items():
            g = gradient[path]
            if since >= clip_from:
                spikes = (g**2 > theta * v[path]) & (v[path] > 0)
                g = np.where(spikes, np.sign(g) * np.sqrt(theta * v[path]), g)
            m[path] = b1 * m[path] + (1.0 - b1) * g
            v[path] = b2 * v[path] + (1.0 - b2) * g**2
            first, second = m[path] / (1.0 - b1**t), v[path] / (1.0 - b2**t)
            direction = scale * first / (np.sqrt(second) + eps) + (weight_decay or 0.0) * param
            updates[step][path] = -at(learning_rate, step) * direction
    return updates
