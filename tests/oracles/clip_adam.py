"""Clip-AdaGrad and Clip-Adam: a scale ``b`` for every entry, started at ``b_init`` everywhere.

The clip is of the whole gradient, of each leaf or of each entry. A gradient that is not finite is a
step on which nothing happens (leaf by leaf, where leaves are clipped by themselves).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at, is_finite, norm, zeros


@oracle("clip_adagrad")
def clip_adagrad(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    learning_rate: Schedule,
    threshold: Schedule,
    b_init: float = 1e-2,
    delay: int | None = None,
    clip: str = "global",
    weight_decay: float | None = None,
) -> Updates:
    """``b^2 <- b^2 + g^2``, ``-gamma (g/b + lambda x)``."""
    return _divided(
        gradients, params, learning_rate, threshold, b_init, None, (1.0, 1.0), delay, clip,
        weight_decay,
    )  # fmt: skip


@oracle("clip_adam")
def clip_adam(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    learning_rate: Schedule,
    threshold: Schedule,
    b_init: float = 1e-3,
    b1: float | None = 0.9,
    b2: float = 0.999,
    delay: int | None = None,
    clip: str = "global",
    weight_decay: float | None = None,
) -> Updates:
    """``b^2 <- b2 b^2 + (1 - b2) g^2``, ``-gamma (m/b + lambda x)``."""
    return _divided(
        gradients, params, learning_rate, threshold, b_init, b1, (b2, 1.0 - b2), delay, clip,
        weight_decay,
    )  # fmt: skip


def _divided(
    gradients: Sequence[Tree],
    params: Tree,
    learning_rate: Schedule,
    threshold: Schedule,
    b_init: float,
    b1: float | None,
    weights: tuple[float, float],
    delay: int | None,
    clip: str,
    weight_decay: float | None,
) -> Updates:
    updates = [zeros(gradient) for gradient in gradients]
    keep, take = weights
    for path, param in params.items():
        scales = [np.full_like(param, b_init)] * ((delay or 0) + 1)
        momentum = np.zeros_like(param)
        for step, gradient in enumerate(gradients):
            block = {path: gradient[path]} if clip == "leaf" else gradient
            if not is_finite(block):
                continue
            clipped = _clipped(gradient[path], norm(block), at(threshold, step), clip)
            momentum = (b1 or 0.0) * momentum + (1.0 - (b1 or 0.0)) * clipped
            scales.append(np.sqrt(keep * scales[-1] ** 2 + take * clipped**2))
            direction = momentum / scales[-1 - (delay or 0)] + (weight_decay or 0.0) * param
            updates[step][path] = -at(learning_rate, step) * direction
    return updates


def _clipped(
    leaf: NDArray[np.float64], size: float, threshold: float, clip: str
) -> NDArray[np.float64]:
    if clip == "coordinate":
        return np.minimum(np.maximum(leaf, -threshold), threshold)
    return leaf if size <= threshold or math.isinf(threshold) else leaf * (threshold / size)
