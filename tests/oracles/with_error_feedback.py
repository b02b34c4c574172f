"""Error feedback: the clip of the change is added to what was handed on, "Clip21"."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Oracle, Tree, Updates, add, is_finite, scale, zeros


@oracle("with_error_feedback")
def with_error_feedback(gradients: Sequence[Tree], params: Tree, *, inner: Oracle) -> Updates:
    """``v += clip(g - v)``; the clip has no memory. A bad step leaves no trace."""
    estimate = zeros(gradients[0])
    updates = []
    for gradient in gradients:
        if not is_finite(gradient):
            updates.append(zeros(gradient))
            continue
        [passed] = inner([add(gradient, scale(-1.0, estimate))], params)
        estimate = add(estimate, passed)
        updates.append(estimate)
    return updates
