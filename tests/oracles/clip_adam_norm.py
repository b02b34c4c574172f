"""Clip-AdaGrad-Norm and Clip-Adam-Norm, with delay: the scale ``b`` starts at ``b_init``.

The divisor of step ``t`` uses gradients up to ``t - delay``, so the first ``delay`` steps divide
by ``b_init`` itself. The momentum and the gradient are never delayed. A step whose gradient is not
finite is a step on which nothing happens but the passing of time.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import (
    Schedule,
    Tree,
    Updates,
    add,
    at,
    clip,
    is_finite,
    norm,
    scale,
    zeros,
)


def _divided(
    gradients: Sequence[Tree],
    accumulate: Callable[[float, float], float],
    *,
    learning_rate: Schedule,
    threshold: Schedule,
    b_init: float,
    b1: float | None,
    delay: int | None,
) -> Updates:
    history = [b_init] * ((delay or 0) + 1)
    momentum = zeros(gradients[0])
    updates = []
    for step, gradient in enumerate(gradients):
        if not is_finite(gradient):
            updates.append(zeros(gradient))
            continue
        clipped = clip(gradient, at(threshold, step))
        momentum = add(scale(b1 or 0.0, momentum), scale(1.0 - (b1 or 0.0), clipped))
        history.append(accumulate(history[-1], norm(clipped)))
        divisor = history[-1 - (delay or 0)]
        updates.append(scale(-at(learning_rate, step) / divisor, momentum))
    return updates


@oracle("clip_adagrad_norm")
def clip_adagrad_norm(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    learning_rate: Schedule,
    threshold: Schedule,
    b_init: float = 1.0,
    b1: float | None = None,
    delay: int | None = None,
) -> Updates:
    """``-eta m / b`` with ``b^2 <- b^2 + ||g||^2`` of the clipped gradient."""
    return _divided(
        gradients,
        lambda b, size: math.sqrt(b**2 + size**2),
        learning_rate=learning_rate,
        threshold=threshold,
        b_init=b_init,
        b1=b1,
        delay=delay,
    )


@oracle("clip_adam_norm")
def clip_adam_norm(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    learning_rate: Schedule,
    threshold: Schedule,
    b_init: float = 1.0,
    b1: float | None = 0.9,
    b2: float = 0.999,
    delay: int | None = None,
) -> Updates:
    """``-eta m / b`` with ``b^2 <- b2 b^2 + (1 - b2) ||g||^2`` of the clipped gradient."""
    return _divided(
        gradients,
        lambda b, size: math.sqrt(b2 * b**2 + (1.0 - b2) * size**2),
        learning_rate=learning_rate,
        threshold=threshold,
        b_init=b_init,
        b1=b1,
        delay=delay,
    )


@oracle("scale_by_adagrad_norm", "norms.adagrad_norm")
def scale_by_adagrad_norm(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    b_init: float,
    b1: float | None = None,
    delay: int | None = None,
) -> Updates:
    """``m / b`` of AdaGrad-Norm: no clip, and the sign of the gradient."""
    return clip_adagrad_norm(
        gradients,
        params,
        learning_rate=-1.0,
        threshold=math.inf,
        b_init=b_init,
        b1=b1,
        delay=delay,
    )


@oracle("scale_by_adam_norm")
def scale_by_adam_norm(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    b_init: float,
    b1: float | None = 0.9,
    b2: float = 0.999,
    delay: int | None = None,
) -> Updates:
    """``m / b`` of Adam-Norm: no clip, and the sign of the gradient."""
    return clip_adam_norm(
        gradients,
        params,
        learning_rate=-1.0,
        threshold=math.inf,
        b_init=b_init,
        b1=b1,
        b2=b2,
        delay=delay,
    )


oracle("norms.adam_norm")(functools.partial(scale_by_adam_norm, b1=None))


@oracle("clip_radagrad_norm")
def clip_radagrad_norm(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    learning_rate: Schedule,
    threshold: Schedule,
    b_init: float = 1.0,
    reweight: float = 1.0,
) -> Updates:
    """``b^2 <- b^2 + w n^2``, divided by the ``b`` of the step before."""

    def accumulate(b: float, size: float) -> float:
        return math.sqrt(b**2 + reweight * size**2)

    return _divided(
        gradients,
        accumulate,
        learning_rate=learning_rate,
        threshold=threshold,
        b_init=b_init,
        b1=None,
        delay=1,
    )
