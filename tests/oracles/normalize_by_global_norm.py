"""Normalised gradients, "Why gradient clipping accelerates training" (arXiv 1905.11881)."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Tree, Updates, by_step, norm, scale


@oracle("normalize_by_global_norm", "norms.normalize")
def normalize_by_global_norm(gradients: Sequence[Tree], params: Tree, *, eps: float) -> Updates:
    """``g / (n + eps)``."""
    return by_step(lambda gradient, step: scale(1.0 / (norm(gradient) + eps), gradient), gradients)
