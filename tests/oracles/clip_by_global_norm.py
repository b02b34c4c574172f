"""Clipped gradients, "Why gradient clipping accelerates training" (arXiv 1905.11881)."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at, by_step, clip


@oracle("clip_by_global_norm")
def clip_by_global_norm(gradients: Sequence[Tree], params: Tree, *, max_norm: Schedule) -> Updates:
    """``min(1, c/n) g`` with one norm for the whole tree."""
    return by_step(lambda gradient, step: clip(gradient, at(max_norm, step)), gradients)


@oracle("norms.clip")
def norms_clip(gradients: Sequence[Tree], params: Tree, *, threshold: Schedule) -> Updates:
    """The same, with the rule's own name for the threshold."""
    return clip_by_global_norm(gradients, params, max_norm=threshold)
