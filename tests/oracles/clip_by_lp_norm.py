"""The clip of the L1, the maximum or any other p-norm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at, by_step, scale


def p_norm(tree: Tree, order: float) -> float:
    """``(sum |x|^p)^(1/p)`` over all entries, or the largest magnitude."""
    sizes = np.concatenate([np.abs(leaf).ravel() for leaf in tree.values()])
    if math.isinf(order):
        return float(sizes.max(initial=0.0))
    return float(np.sum(sizes**order)) ** (1 / order)


@oracle("clip_by_lp_norm")
def clip_by_lp_norm(
    gradients: Sequence[Tree], params: Tree, *, threshold: Schedule, ord: float
) -> Updates:
    """``min(1, c/n) g`` with the p-norm ``n`` of the whole tree."""

    def rule(gradient: Tree, step: int) -> Tree:
        size = p_norm(gradient, ord)
        limit = at(threshold, step)
        return gradient if size <= limit else scale(limit / size, gradient)

    return by_step(rule, gradients)
