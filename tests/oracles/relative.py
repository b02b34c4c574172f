"""AGC, "High-Performance Large-Scale Image Recognition Without Normalization" (2102.06171)."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Tree, Updates, by_step, clip, norm


@oracle("thresholds.relative")
def relative(
    gradients: Sequence[Tree], params: Tree, *, clipping: float = 0.01, eps: float = 1e-3
) -> Updates:
    """``min(1, lambda max(||w||, eps)/||g||) g``, the whole tree as one unit."""
    threshold = clipping * max(norm(params), eps)
    return by_step(lambda gradient, step: clip(gradient, threshold), gradients)
