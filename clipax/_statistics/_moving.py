"""How the scales of AdaGrad and Adam grow: the same for norms and for single entries.

Scales are kept, never squares, so that a size of 1e30 is remembered as such.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from clipax import _validate
from clipax._typing import Array, Scalar

__all__ = ["Scale", "adagrad", "adam", "hypot", "power_mean"]


class Scale(NamedTuple):
    """A scale `b` of what was seen so far.

    Attributes:
      b_init: Its value before the first step.
      accumulate: From `(b, sizes)` to the new `b`: positive, finite, elementwise.
    """

    b_init: Scalar
    accumulate: Callable[[Array, Array], Array]


def adagrad(b_init: Scalar, reweight: Scalar = 1.0) -> Scale:
    """`b^2 <- b^2 + reweight n^2`."""
    _check(b_init)
    _validate.positive("reweight", reweight)

    def accumulate(b: Array, sizes: Array) -> Array:
        return _floor(hypot(b, jnp.sqrt(jnp.asarray(reweight, b.dtype)) * sizes))

    return Scale(b_init, accumulate)


def adam(b_init: Scalar, b2: Scalar) -> Scale:
    """`b^2 <- b2 b^2 + (1 - b2) n^2`."""
    _check(b_init)
    _validate.open_unit("b2", b2)

    def accumulate(b: Array, sizes: Array) -> Array:
        # 1 - b2 before rounding to float32, where .999 would cost it four digits.
        old, new = jnp.asarray(b2, b.dtype), jnp.asarray(1 - b2, b.dtype)
        return _floor(hypot(jnp.sqrt(old) * b, jnp.sqrt(new) * sizes))

    return Scale(b_init, accumulate)


def power_mean(old: Array, new: Array, weight: Scalar, exponent: Scalar) -> Array:
    """`(weight old^a + (1 - weight) new^a)^(1/a)` of non-negative numbers, safe from overflow."""
    kept, fresh = jnp.asarray(weight, old.dtype), jnp.asarray(1 - weight, old.dtype)
    if isinstance(exponent, int | float) and exponent == 1:
        return kept * old + fresh * new
    large = jnp.maximum(old, new)
    zero = large == 0
    unit = jnp.where(zero, 1, large)
    power = jnp.asarray(exponent, old.dtype)
    mean = kept * (old / unit) ** power + fresh * (new / unit) ** power
    return jnp.where(zero, 0, large * jnp.where(zero, 1, mean) ** (1 / power))


def _check(b_init: Scalar) -> None:
    # Its inverse is the first factor, and must be finite.
    _validate.number("b_init", b_init, "finite and at least 1e-37", lambda b: 1e-37 <= b < math.inf)


def _floor(b: Array) -> Array:
    """Only for a decaying scale that met nothing but zeros: its inverse stays finite."""
    return jnp.maximum(b, jnp.finfo(b.dtype).smallest_normal)


def hypot(a: Array, b: Array) -> Array:
    """`sqrt(a^2 + b^2)` of non-negative numbers; neither squares nor the result overflow."""
    large, small = jnp.maximum(a, b), jnp.minimum(a, b)
    zero = large == 0
    ratio = jnp.where(zero, 0, small / jnp.where(zero, 1, large))
    return jnp.minimum(large * jnp.sqrt(1 + ratio**2), jnp.finfo(a.dtype).max)
