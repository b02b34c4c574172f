"""What acts on whole updates: delay, skipping of steps that are not finite, chains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.oracles._tree import Oracle, Tree, Updates, is_finite, zeros


def delay_updates(gradients: Sequence[Tree], params: Tree, *, delay: int | None = None) -> Updates:
    """The update of ``delay`` steps ago; zeros on the first ``delay`` steps.

    An entry that is not finite is remembered as zero.
    """
    held = [zeros(gradients[0]) for _ in range(delay or 0)]
    clean = [
        {path: np.where(np.isfinite(leaf), leaf, 0.0) for path, leaf in gradient.items()}
        for gradient in gradients
    ]
    return [*held, *clean][: len(gradients)]


def skip_nonfinite(gradients: Sequence[Tree], params: Tree, *, inner: Oracle) -> Updates:
    """The inner method never sees a gradient with a NaN or an infinity; its update is zero."""
    finite = [is_finite(gradient) for gradient in gradients]
    kept = [gradient for gradient, good in zip(gradients, finite, strict=True) if good]
    updates = iter(inner(kept, params))
    return [
        next(updates) if good else zeros(gradient)
        for gradient, good in zip(gradients, finite, strict=True)
    ]


def chain(gradients: Sequence[Tree], params: Tree, *, links: Sequence[Oracle]) -> Updates:
    """Each link is handed the updates of the one before: it measures the clipped gradient."""
    updates = list(gradients)
    for link in links:
        updates = link(updates, params)
    return updates
