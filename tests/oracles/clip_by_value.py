"""Each entry clipped, or bent, by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at
from tests.oracles.clip_by_smooth_norm import bent


@oracle("clip_by_value")
def clip_by_value(
    gradients: Sequence[Tree], params: Tree, *, threshold: Schedule, response: str = "hard"
) -> Updates:
    """Each entry bent by itself; NaN becomes 0, an infinite entry the bound of its sign."""

    def one_leaf(leaf: np.ndarray, bound: float) -> np.ndarray:
        sizes = [
            bound if math.isinf(entry) else bent(abs(entry), bound, response)
            for entry in leaf.ravel()
        ]
        bounded = np.sign(leaf) * np.reshape(sizes, leaf.shape)
        return np.where(np.isnan(leaf), 0.0, bounded)

    return [
        {path: one_leaf(leaf, at(threshold, step)) for path, leaf in gradient.items()}
        for step, gradient in enumerate(gradients)
    ]
