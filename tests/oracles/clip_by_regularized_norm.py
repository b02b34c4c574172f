"""Regularized clipping (delta-GClip): ``h = min(1, max(delta, gamma/n))``."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, add, at, by_step, norm, scale


def _factor(gradient: Tree, threshold: float, delta: float) -> float:
    size = norm(gradient)
    return min(1.0, max(delta, threshold / size)) if size > 0.0 else 1.0


@oracle("clip_by_regularized_norm")
def clip_by_regularized_norm(
    gradients: Sequence[Tree], params: Tree, *, threshold: Schedule, delta: float
) -> Updates:
    """``min(1, max(delta, gamma/n)) g``; a zero gradient gives a zero step."""

    def rule(gradient: Tree, step: int) -> Tree:
        return scale(_factor(gradient, at(threshold, step), delta), gradient)

    return by_step(rule, gradients)


@oracle("regularized_clip_sgd")
def regularized_clip_sgd(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    learning_rate: Schedule,
    threshold: Schedule,
    delta: float,
    weight_decay: float | None = None,
) -> Updates:
    """``-eta h(g) (g + wd x)``: decay is added after ``h`` was computed from the raw gradient."""

    def rule(gradient: Tree, step: int) -> Tree:
        factor = _factor(gradient, at(threshold, step), delta)
        decayed = add(gradient, scale(weight_decay or 0.0, params))
        return scale(-at(learning_rate, step) * factor, decayed)

    return by_step(rule, gradients)
