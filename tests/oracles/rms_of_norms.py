"""A multiple of the root mean square of the norms, "To clip or not to clip" (arXiv 2406.11733)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Tree, Updates, clip, is_remembered, norm, scale, zeros


@oracle("thresholds.rms_of_norms")
def rms_of_norms(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    kappa: float,
    decay: float = 0.99,
    limit: float | None = 10.0,
    compensate: str | None = None,
) -> Updates:
    """``kappa`` times the root of the weighted mean of all squares, newest first, each limited."""
    entered: list[float] = []
    within: list[float] = []
    low = False

    def average(values: Sequence[float]) -> float:
        weights = [decay**age for age in range(len(values))]
        return math.fsum(
            weight * value for weight, value in zip(weights, reversed(values), strict=True)
        ) / math.fsum(weights)

    updates = []
    for gradient in gradients:
        if not is_remembered(gradient):
            updates.append(zeros(gradient))
            continue
        size = norm(gradient)
        root = math.sqrt(average([value**2 for value in entered])) if entered else 0.0
        if limit is not None:
            if size < root / limit**2 and low:
                entered, within, root = [], [], 0.0
            low = bool(entered) and size < root / limit**2
        limited = limit is not None and root > 0.0
        entered.append(min(size, limit * root) if limited else size)  # type: ignore[operator]
        threshold = kappa * math.sqrt(average([value**2 for value in entered]))
        within.append(1.0 if size <= threshold else 0.0)
        bound = max(1.0, 1.0 / kappa)
        share = average(within)
        factor = {
            None: 1.0,
            "bound": bound,
            "fraction": min(bound, 1.0 / share) if share > 0.0 else bound,
        }[compensate]
        updates.append(scale(factor, clip(gradient, threshold)))
    return updates


oracle("norms.rms_clip")(functools.partial(rms_of_norms, compensate="fraction"))
