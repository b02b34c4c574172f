"""Decisions on norms, lifted to gradients: ``u = after * EMA_b1(before * g)``.

A rule is made anew for each run and gives the factor of each norm that it is handed, in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Tree, Updates, add, is_finite, norm, scale, zeros

Rule = Callable[[float], float]


def clip(threshold: float) -> Rule:
    """``min(1, c/n)``."""
    return lambda size: 1.0 if size <= threshold else threshold / size


def adagrad_norm(b_init: float) -> Rule:
    """``1/b`` with ``b^2 <- b^2 + n^2``."""
    norms = [b_init]

    def rule(size: float) -> float:
        norms.append(size)
        return 1.0 / math.sqrt(sum(value**2 for value in norms))

    return rule


def delay(inner: Rule, steps: int, initial: float) -> Rule:
    """The factor of so many steps ago, those of zero norms apart."""
    factors = [initial] * steps

    def rule(size: float) -> float:
        factor, newest = factors[-steps], inner(size)
        if size > 0.0:
            factors.append(newest)
        return factor

    return rule


@oracle("scale_by_norm")
def scale_by_norm(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    before: Callable[[], Rule] = lambda: clip(math.inf),
    after: Callable[[], Rule] = lambda: clip(math.inf),
    b1: float = 0.0,
    weight_decay: float = 0.0,
) -> Updates:
    """``after`` is handed the norm of ``before * g``; decay is scaled with it but not measured."""
    first, second = before(), after()
    momentum = zeros(gradients[0])
    updates = []
    for gradient in gradients:
        if not is_finite(gradient):
            updates.append(zeros(gradient))
            continue
        factor = first(norm(gradient))
        scaled = scale(factor, add(gradient, scale(weight_decay, params)))
        momentum = add(scale(b1, momentum), scale(1.0 - b1, scaled))
        updates.append(scale(second(factor * norm(gradient)), momentum))
    return updates
