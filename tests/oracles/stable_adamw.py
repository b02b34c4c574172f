"""StableAdamW: AdamW, the rate of each tensor cut where the gradient outgrows its second moment.

The decay rates are de-biased instead of the averages. A tensor that is not finite is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at, is_finite, zeros


@oracle("stable_adamw")
def stable_adamw(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    learning_rate: Schedule,
    b1: float = 0.9,
    b2: float = 0.99,
    eps: float = 1e-6,
    weight_decay: float | None = None,
) -> Updates:
    """``eta/max(1, RMS)`` times ``v/(sqrt(u) + eps) + lambda x``."""
    updates = [zeros(gradient) for gradient in gradients]
    for path, param in params.items():
        v, u, t = np.zeros_like(param), np.zeros_like(param), 0
        for step, gradient in enumerate(gradients):
            g = gradient[path]
            if not is_finite({path: g}):
                continue
            t += 1
            debiased1 = b1 * (1.0 - b1 ** (t - 1)) / (1.0 - b1**t)
            debiased2 = b2 * (1.0 - b2 ** (t - 1)) / (1.0 - b2**t)
            v = debiased1 * v + (1.0 - debiased1) * g
            u = debiased2 * u + (1.0 - debiased2) * g**2
            ratios = g**2 / np.maximum(u, eps**2)
            rms = math.sqrt(np.mean(ratios)) if g.size else 0.0
            rate = at(learning_rate, step) / max(1.0, rms)
            direction = v / (np.sqrt(u) + eps) + (weight_decay or 0.0) * param
            updates[step][path] = -rate * direction
    return updates
