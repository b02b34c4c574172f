"""Norms brought into a band around their average: AGGC (2601.11864), AdaNorm (2210.06364)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, at, is_remembered, norm, scale, zeros


@oracle("norms.band")
def band(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    low: Schedule,
    high: Schedule,
    decay: float = 0.95,
    max_factor: float = 10.0,
) -> Updates:
    """Cut to ``high`` times the average before the step, raised to ``low`` times that behind it.

    A norm enters the average as the cut left it. Two norms in a row that even the largest factor
    does not raise into the band begin the average anew; among the first norms, two that are as far
    above it do so too.
    """
    entered: list[float] = []
    was = 0

    def average() -> float:
        weights = [decay**age for age in range(len(entered))]
        pairs = zip(weights, reversed(entered), strict=True)
        return math.fsum(weight * value for weight, value in pairs) / math.fsum(weights)

    updates = []
    for step, gradient in enumerate(gradients):
        if not is_remembered(gradient):
            updates.append(zeros(gradient))
            continue
        size = norm(gradient)
        before = average() if entered else math.inf
        far = 0
        if entered and size * max_factor < at(low, step) * before:
            far = -1
        elif (
            entered
            and len(entered) * (1 - decay) < 1
            and size > max_factor * at(high, step) * before
        ):
            far = 1
        anew = far != 0 and far == was
        was = 0 if anew else far
        if anew:
            entered, before = [], math.inf
        upper = at(high, step) * before
        entered.append(min(size, upper))
        lower = at(low, step) * average()
        factor = 1.0
        if size > upper:
            factor = upper / size
        elif size < lower:
            factor = min(max_factor, lower / size)
        updates.append(scale(factor, gradient))
    return updates
