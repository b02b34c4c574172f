"""Methods that see matrices, duals of norms, or what was cut off before.

Spectral clipping (arXiv 2603.14315), generalised gradient norm clipping (arXiv 2506.01913) and
error feedback (Clip21, arXiv 2305.18929).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.oracles._tree import (
    Oracle,
    Schedule,
    Tree,
    Updates,
    add,
    at,
    is_finite,
    norm,
    scale,
    zeros,
)

Matrix = NDArray[np.float64]


def as_matrix(leaf: Matrix) -> Matrix:
    """All axes but the last as rows; a vector as one column."""
    return leaf.reshape(-1, 1) if leaf.ndim < 2 else leaf.reshape(-1, leaf.shape[-1])


def _decomposed(leaf: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    left, values, right = np.linalg.svd(as_matrix(leaf), full_matrices=False)
    return left, values, right


def singular_values(leaf: Matrix) -> Matrix:
    """Those of the leaf as a matrix; one zero for a leaf without entries."""
    return _decomposed(leaf)[1] if leaf.size else np.zeros(1)


def clip_by_singular_values(
    gradients: Sequence[Tree], params: Tree, *, threshold: Schedule
) -> Updates:
    """``U min(S, c) V^T`` for each leaf; only a bad leaf becomes zero."""

    def one_leaf(leaf: Matrix, limit: float) -> Matrix:
        if not np.isfinite(leaf).all():
            return np.zeros_like(leaf)
        if not leaf.size:
            return leaf
        left, values, right = _decomposed(leaf)
        return ((left * np.minimum(values, limit)) @ right).reshape(leaf.shape)

    return [
        {path: one_leaf(leaf, at(threshold, step)) for path, leaf in gradient.items()}
        for step, gradient in enumerate(gradients)
    ]


def _steepest(momentum: Tree, kind: str) -> Tree:
    """The ``-v`` with the smallest ``<m, v>`` in the unit ball; zero where anything would do."""
    if kind == "euclidean":
        size = norm(momentum)
        return scale(1.0 / size if size else 0.0, momentum)
    if kind == "max":
        return {path: np.sign(leaf) for path, leaf in momentum.items()}

    def polar(leaf: Matrix) -> Matrix:
        if not leaf.size:
            return leaf
        left, values, right = _decomposed(leaf)
        return ((left * (values > 1e-13 * values[0])) @ right).reshape(leaf.shape)

    return {path: polar(leaf) for path, leaf in momentum.items()}


def ggnc(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    learning_rate: Schedule,
    radius: Schedule,
    norm: str = "euclidean",
    decay: float = 0.9,
) -> Updates:
    """``eta min(rho, <m, -v>) v``."""
    momentum = zeros(gradients[0])
    updates = []
    for step, gradient in enumerate(gradients):
        if not is_finite(gradient):
            updates.append(zeros(gradient))
            continue
        momentum = add(scale(decay, momentum), scale(1.0 - decay, gradient))
        direction = _steepest(momentum, norm)
        dual = sum(float(np.sum(momentum[path] * direction[path])) for path in momentum)
        length = at(learning_rate, step) * min(at(radius, step), dual)
        updates.append(scale(-length, direction))
    return updates


def with_error_feedback(
    gradients: Sequence[Tree], params: Tree, *, transformation: Oracle
) -> Updates:
    """``v += clip(g - v)``; the clip has no memory. A bad step leaves no trace."""
    estimate = zeros(gradients[0])
    updates = []
    for gradient in gradients:
        if not is_finite(gradient):
            updates.append(zeros(gradient))
            continue
        [passed] = transformation([add(gradient, scale(-1.0, estimate))], params)
        estimate = add(estimate, passed)
        updates.append(estimate)
    return updates
