"""Normalised momentum, with a clip of the gradient in front of it or without."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import (
    Schedule,
    Tree,
    Updates,
    add,
    at,
    clip,
    is_finite,
    norm,
    scale,
    zeros,
)


@oracle("clip_normalized_momentum")
def clip_normalized_momentum(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    learning_rate: Schedule,
    threshold: Schedule,
    decay: float = 0.9,
) -> Updates:
    """``m <- b m + (1 - b) clip(g, c)``, ``-eta m/|m|``; no step along a momentum of zero."""
    momentum = zeros(gradients[0])
    updates = []
    for step, gradient in enumerate(gradients):
        if not is_finite(gradient):
            updates.append(zeros(gradient))
            continue
        clipped = clip(gradient, at(threshold, step))
        momentum = add(scale(decay, momentum), scale(1.0 - decay, clipped))
        size = norm(momentum)
        updates.append(scale(-at(learning_rate, step) / size if size > 0.0 else 0.0, momentum))
    return updates


@oracle("normalized_momentum")
def normalized_momentum(
    gradients: Sequence[Tree], params: Tree, *, learning_rate: Schedule, decay: float = 0.9
) -> Updates:
    """``m <- b m + (1 - b) g``, ``-eta m/|m|``."""
    return clip_normalized_momentum(
        gradients, params, learning_rate=learning_rate, threshold=math.inf, decay=decay
    )
