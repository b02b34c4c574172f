"""Error feedback: "Clip21", "Clip21-SGD2M" of one worker, and "U-Clip"."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Oracle, Tree, Updates, add, is_finite, scale, zeros


@oracle("with_error_feedback")
def with_error_feedback(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    inner: Oracle,
    memory: str = "difference",
    b1: float | None = None,
    step: float = 1.0,
) -> Updates:
    """The clip has no memory. A bad step leaves no trace.

    ``v = b1 v + (1 - b1) g; w += s clip(v - w); u = w`` from zero, or
    ``u = clip(g + b); b += g - u``.
    """
    given, average, buffer = (zeros(gradients[0]) for _ in range(3))
    updates = []
    for gradient in gradients:
        if not is_finite(gradient):
            updates.append(zeros(gradient))
            continue
        if memory == "buffer":
            [passed] = inner([add(gradient, buffer)], params)
            buffer = add(add(buffer, gradient), scale(-1.0, passed))
            updates.append(passed)
            continue
        decay = 0.0 if b1 is None else b1
        average = add(scale(decay, average), scale(1 - decay, gradient))
        [passed] = inner([add(average, scale(-1.0, given))], params)
        given = add(given, scale(step, passed))
        updates.append(given)
    return updates
