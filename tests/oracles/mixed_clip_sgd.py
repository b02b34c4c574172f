"""Mixed and momentum clipping: momentum and gradient, each with a step length of its own."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracles._registry import oracle
from tests.oracles._tree import Schedule, Tree, Updates, add, at, is_finite, norm, scale, zeros


def _rate(rate: float, longest: float, size: float, response: str) -> float:
    """``min(eta, G/n)``, or softly ``eta/(1 + eta n/G)``."""
    if response == "soft":
        return rate / (1.0 + rate * size / longest)
    return rate if rate * size <= longest else longest / size


@oracle("mixed_clip_sgd")
def mixed_clip_sgd(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    learning_rate: Schedule,
    max_step: Schedule,
    nu: float = 0.7,
    decay: float = 0.999,
    response: str = "hard",
    weight_decay: float | None = None,
) -> Updates:
    """``-nu min(eta, G/|m|) m - (1 - nu) min(eta, G/n) g``, weight decay added to ``g`` first."""
    momentum = zeros(gradients[0])
    updates = []
    for step, gradient in enumerate(gradients):
        if not is_finite(gradient):
            updates.append(zeros(gradient))
            continue
        rate, longest = at(learning_rate, step), at(max_step, step)
        decayed = add(gradient, scale(weight_decay or 0.0, params))
        momentum = add(scale(decay, momentum), scale(1.0 - decay, decayed))
        first = scale(-nu * _rate(rate, longest, norm(momentum), response), momentum)
        second = scale(-(1.0 - nu) * _rate(rate, longest, norm(decayed), response), decayed)
        updates.append(add(first, second))
    return updates


@oracle("momentum_clip_sgd")
def momentum_clip_sgd(
    gradients: Sequence[Tree],
    params: Tree,
    *,
    learning_rate: Schedule,
    max_step: Schedule,
    decay: float = 0.9,
    response: str = "hard",
    weight_decay: float | None = None,
) -> Updates:
    """``-min(eta, G/|m|) m``."""
    return mixed_clip_sgd(
        gradients,
        params,
        learning_rate=learning_rate,
        max_step=max_step,
        nu=1.0,
        decay=decay,
        response=response,
        weight_decay=weight_decay,
    )
