"""The clip of each leaf by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at, clip, is_finite


@oracle("clip_by_leaf_norm")
def clip_by_leaf_norm(gradients: Sequence[Tree], params: Tree, *, threshold: Schedule) -> Updates:
    """``min(1, c/n) g`` with one norm for each leaf; only a bad leaf becomes zero."""

    def one_leaf(path: str, leaf: np.ndarray, step: int) -> np.ndarray:
        block = {path: leaf}
        return clip(block, at(threshold, step))[path] if is_finite(block) else np.zeros_like(leaf)

    return [
        {path: one_leaf(path, leaf, step) for path, leaf in gradient.items()}
        for step, gradient in enumerate(gradients)
    ]
