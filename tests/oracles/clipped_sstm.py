"""Clipped SSTM with its sequences ``alpha``, ``A``, ``x``, ``y`` and ``z`` as in the paper."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Tree, Updates, add, clip, is_finite, scale, zeros


def _similar(total: float, y: Tree, alpha: float, z: Tree) -> Tree:
    """``(A_k y + alpha z)/A_(k+1)``."""
    return scale(1.0 / (total + alpha), add(scale(total, y), scale(alpha, z)))


def points(
    gradients: Sequence[Tree], start: Tree, *, smoothness: float, a: float, clip_constant: float
) -> list[tuple[Tree, Tree]]:
    """The next point ``x`` and the output ``y`` after each gradient; steps count if finite."""
    x, y, z, total, k = start, start, start, 0.0, 0
    reached = []
    for gradient in gradients:
        if is_finite(gradient):
            alpha = (k + 2) / (2 * a * smoothness)
            z = add(z, scale(-alpha, clip(gradient, clip_constant / alpha)))
            y = _similar(total, y, alpha, z)
            total, k = total + alpha, k + 1
            x = _similar(total, y, (k + 2) / (2 * a * smoothness), z)
        reached.append((x, y))
    return reached


@oracle("clipped_sstm")
def clipped_sstm(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    smoothness: float,
    a: float,
    clip_constant: float,
) -> Updates:
    """From the parameters, which stay the same here, to each next point."""
    reached = points(gradients, params, smoothness=smoothness, a=a, clip_constant=clip_constant)
    return [
        add(x, scale(-1.0, params)) if is_finite(gradient) else zeros(gradient)
        for (x, _), gradient in zip(reached, gradients, strict=True)
    ]
