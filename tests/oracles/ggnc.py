"""Generalised gradient norm clipping: steps as long as the dual norm of the momentum, or cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, add, at, is_finite, norm, scale, zeros
from tests.oracles.clip_by_singular_values import Matrix, decomposed


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
        left, values, right = decomposed(leaf)
        return ((left * (values > 1e-13 * values[0])) @ right).reshape(leaf.shape)

    return {path: polar(leaf) for path, leaf in momentum.items()}


@oracle("ggnc")
def ggnc(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    learning_rate: Schedule,
    radius: Schedule,
    norm: str = "euclidean",
    b1: float = 0.9,
    method: str = "auto",
) -> Updates:
    """``eta min(rho, <m, -v>) v``."""
    momentum = zeros(gradients[0])
    updates = []
    for step, gradient in enumerate(gradients):
        if not is_finite(gradient):
            updates.append(zeros(gradient))
            continue
        momentum = add(scale(b1, momentum), scale(1.0 - b1, gradient))
        direction = _steepest(momentum, norm)
        dual = sum(float(np.sum(momentum[path] * direction[path])) for path in momentum)
        length = at(learning_rate, step) * min(at(radius, step), dual)
        updates.append(scale(-length, direction))
    return updates
