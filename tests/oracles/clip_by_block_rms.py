"""Adafactor's update clipping (arXiv 1804.04235)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at, is_finite


@oracle("clip_by_block_rms")
def clip_by_block_rms(
    gradients: Sequence[Tree], params: Tree, *, threshold: Schedule = 1.0
) -> Updates:
    """``g / max(1, rms(g)/d)`` for each leaf; only a bad leaf becomes zero."""

    def one_leaf(leaf: np.ndarray, limit: float) -> np.ndarray:
        if not leaf.size or not is_finite({"": leaf}):
            return np.zeros_like(leaf)
        return leaf / max(1.0, math.sqrt(np.mean(leaf**2)) / limit)

    return [
        {path: one_leaf(leaf, at(threshold, step)) for path, leaf in gradient.items()}
        for step, gradient in enumerate(gradients)
    ]
