"""The updates of an inner method at the steps that are not skipped; the others are zero."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Oracle, Schedule, Tree, Updates, at, is_finite, norm, zeros


@oracle("skip_nonfinite")
def skip_nonfinite(gradients: Sequence[Tree], params: Tree, *, inner: Oracle) -> Updates:
    """The inner method never sees a gradient with a NaN or an infinity; its update is zero."""
    return _only([is_finite(gradient) for gradient in gradients], gradients, params, inner)


@oracle("skip_spikes")
def skip_spikes(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    inner: Oracle,
    threshold: Schedule | None = None,
    max_consecutive: int = 25,
) -> Updates:
    """As ``skip_nonfinite``, and likewise for norms above the threshold, so many in a row.

    Without a threshold it is ten times the lower median of the last 50 norms that are not zero.
    """
    taken, seen, row = [], [], 0
    for step, gradient in enumerate(gradients):
        if not is_finite(gradient):
            taken.append(False)
            continue
        size = norm(gradient)
        if size > 0:
            seen.append(size)
        recent = sorted(seen[-50:])
        median = recent[(len(recent) - 1) // 2] if recent else math.inf
        spike = size > (10.0 * median if threshold is None else at(threshold, step))
        if size > 0:
            row = row + 1 if spike else 0
        taken.append(not spike or row > max_consecutive)
    return _only(taken, gradients, params, inner)


def _only(taken: Sequence[bool], gradients: Sequence[Tree], params: Tree, inner: Oracle) -> Updates:
    """The updates of a method that sees nothing of the other steps, which are zero."""
    kept = [gradient for gradient, take in zip(gradients, taken, strict=True) if take]
    updates = iter(inner(kept, params))
    return [
        next(updates) if take else zeros(gradient)
        for gradient, take in zip(gradients, taken, strict=True)
    ]
