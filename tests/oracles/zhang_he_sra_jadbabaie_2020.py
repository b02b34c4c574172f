"""Clipped and normalised gradient descent, "Why gradient clipping accelerates training"."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles._tree import (
    Schedule,
    Tree,
    Updates,
    at,
    by_step,
    clip,
    is_finite,
    norm,
    scale,
    zeros,
)


def clip_by_global_norm(gradients: Sequence[Tree], params: Tree, *, max_norm: Schedule) -> Updates:
    """``min(1, c/n) g`` with one norm for the whole tree."""
    return by_step(lambda gradient, step: clip(gradient, at(max_norm, step)), gradients)


def clip_by_leaf_norm(gradients: Sequence[Tree], params: Tree, *, threshold: Schedule) -> Updates:
    """``min(1, c/n) g`` with one norm for each leaf; only a bad leaf becomes zero."""

    def one_leaf(path: str, leaf: np.ndarray, step: int) -> np.ndarray:
        block = {path: leaf}
        return clip(block, at(threshold, step))[path] if is_finite(block) else np.zeros_like(leaf)

    return [
        {path: one_leaf(path, leaf, step) for path, leaf in gradient.items()}
        for step, gradient in enumerate(gradients)
    ]


def clip_by_group_norm(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    threshold: Schedule,
    total: Schedule | None = None,
    labels: Callable[[str], str] | None = None,
) -> Updates:
    """Each group to ``c``, then what that leaves of all groups together to ``C``.

    A group is a leaf, or all leaves of one label; a bad one becomes zero, and counts as that.
    """
    updates = []
    for step, gradient in enumerate(gradients):
        groups: dict[str, Tree] = {}
        for path, leaf in gradient.items():
            groups.setdefault(labels(path) if labels else path, {})[path] = leaf
        update: Tree = {}
        for group in groups.values():
            update |= clip(group, at(threshold, step)) if is_finite(group) else zeros(group)
        updates.append(update if total is None else clip(update, at(total, step)))
    return updates


def normalize_by_global_norm(gradients: Sequence[Tree], params: Tree, *, eps: float) -> Updates:
    """``g / (n + eps)``."""
    return by_step(lambda gradient, step: scale(1.0 / (norm(gradient) + eps), gradient), gradients)


def clip_sgd(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    learning_rate: Schedule,
    threshold: Schedule,
    offset: float = 0.0,
) -> Updates:
    """``-eta min(1, c/(n + offset)) g``."""

    def rule(gradient: Tree, step: int) -> Tree:
        if offset == 0.0:
            return scale(-at(learning_rate, step), clip(gradient, at(threshold, step)))
        factor = min(1.0, at(threshold, step) / (norm(gradient) + offset))
        return scale(-at(learning_rate, step) * factor, gradient)

    return by_step(rule, gradients)


def normalized_sgd(
    gradients: Sequence[Tree], params: Tree, *, learning_rate: Schedule, eps: float
) -> Updates:
    """``-eta g / (n + eps)``."""

    def rule(gradient: Tree, step: int) -> Tree:
        return scale(-at(learning_rate, step) / (norm(gradient) + eps), gradient)

    return by_step(rule, gradients)
