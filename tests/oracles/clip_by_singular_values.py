"""Spectral clipping: the singular values of each matrix are cut, "Enhancing LLM Training ..."."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at

Matrix = NDArray[np.float64]


def as_matrix(leaf: Matrix) -> Matrix:
    """All axes but the last as rows; a vector as one column."""
    return leaf.reshape(-1, 1) if leaf.ndim < 2 else leaf.reshape(-1, leaf.shape[-1])


def decomposed(leaf: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """The singular value decomposition of the leaf as a matrix."""
    left, values, right = np.linalg.svd(as_matrix(leaf), full_matrices=False)
    return left, values, right


def singular_values(leaf: Matrix) -> Matrix:
    """Those of the leaf as a matrix; one zero for a leaf without entries."""
    return decomposed(leaf)[1] if leaf.size else np.zeros(1)


@oracle("clip_by_singular_values")
def clip_by_singular_values(
    gradients: Sequence[Tree], params: Tree, *, threshold: Schedule, method: str = "auto"
) -> Updates:
    """``U min(S, c) V^T`` for each leaf, by any method; only a bad leaf becomes zero."""

    def one_leaf(leaf: Matrix, limit: float) -> Matrix:
        if not np.isfinite(leaf).all():
            return np.zeros_like(leaf)
        if not leaf.size:
            return leaf
        left, values, right = decomposed(leaf)
        return ((left * np.minimum(values, limit)) @ right).reshape(leaf.shape)

    return [
        {path: one_leaf(leaf, at(threshold, step)) for path, leaf in gradient.items()}
        for step, gradient in enumerate(gradients)
    ]
