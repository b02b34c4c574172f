"""Factors that bring a norm, or an entry's magnitude, under a threshold, by name."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from clipax._typing import Array

__all__ = ["RESPONSES", "hard"]


def hard(norms: Array, threshold: Array) -> Array:
    """Compute `min(1, threshold/norms)`, exactly 1 inside the ball, without 0/0 or inf/inf."""
    outside = norms > threshold
    # The division comes last: XLA writes out its result, but fuses operations after a division into
    # every consumer, and so repeats them for every leaf (`benchmarks/NOTES.md`).
    return jnp.where(outside, threshold, 1) / jnp.where(outside, norms, 1)


def _ratio(threshold: Array, norms: Array) -> Array:
    """Compute `hard` for entries: XLA would write out an array for a division that comes last."""
    outside = norms > threshold
    return jnp.where(outside, threshold / jnp.where(outside, norms, 1), 1)


def _sqrt(norms: Array, threshold: Array) -> Array:
    # Square the ratio of the smaller to the larger, which neither overflows nor vanishes.
    outside = norms > threshold
    inner = jnp.where(outside, 0, norms / jnp.where(outside, 1, threshold))
    outer = _ratio(threshold, norms)
    return jnp.where(outside, outer / jnp.sqrt(1 + outer**2), 1 / jnp.sqrt(1 + inner**2))


def _rational(norms: Array, threshold: Array) -> Array:
    outside = norms > threshold
    inner = jnp.where(outside, 0, norms / jnp.where(outside, 1, threshold))
    outer = _ratio(threshold, norms)
    return jnp.where(outside, outer / (1 + outer), 1 / (1 + inner))


def _tanh(norms: Array, threshold: Array) -> Array:
    ratio = norms / threshold
    # tanh(x)/x = 1 - x^2/3 + ...: below the square root of the precision it is 1.
    small = ratio < jnp.sqrt(jnp.finfo(norms.dtype).eps)
    safe = jnp.where(small, 1, ratio)
    return jnp.where(small, 1, jnp.tanh(safe) / safe)


def _huber(norms: Array, threshold: Array) -> Array:
    # Beyond c use the ratio of c to n, so that neither overflows.
    outer = _ratio(threshold, norms)
    beyond = outer < 2 / 3
    ratio = jnp.where(beyond, 1, norms / jnp.where(beyond, 1, threshold))
    bent = ratio > 0.5
    excess = jnp.where(bent, ratio - 0.5, 0)
    parabola = 1 - excess**2 / (2 * jnp.where(bent, ratio, 1))
    return jnp.where(beyond, outer, jnp.minimum(parabola, outer))


RESPONSES: dict[str, Callable[[Array, Array], Array]] = {
    "sqrt": _sqrt,
    "rational": _rational,
    "tanh": _tanh,
    "hard": hard,
    "huber": _huber,
}
"""From norms and a threshold to factors in [0, 1]."""
