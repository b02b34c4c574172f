"""Moving averages, of numbers and of squares, for norms and for single entries alike.

An average of squares is kept as its root, so that a size of 1e30 does not overflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from clipax import _validate
from clipax._export import exportable
from clipax._statistics._rounding import add_evenly
from clipax._typing import Array, Scalar

__all__ = [
    "Scale",
    "adagrad",
    "adam",
    "bias_correction",
    "hypot",
    "power_mean",
    "weigh_newest",
    "weights",
]


@exportable
class Scale(NamedTuple):
    """A scale `b` of the sizes seen so far.

    Attributes:
      b_init: Its value before the first step.
      accumulate: From `(b, sizes, count)` to the new `b`: positive, finite, elementwise. The number
        of steps before this one says how to round: a change of `b` may be below its last bit.
    """

    b_init: Scalar
    accumulate: Callable[[Array, Array, Array], Array]


def weights(decay: Scalar, dtype: Any) -> tuple[Array, Array]:
    """Compute the weights of memory and of news in a moving average, `decay` and `1 - decay`.

    `1 - decay` is computed before `decay` is rounded to float32, where .999 would cost it four
    digits.
    """
    return jnp.asarray(decay, dtype), jnp.asarray(1 - decay, dtype)


def bias_correction(decay: Scalar, age: Array, dtype: Any) -> Array:
    """Compute `1 - decay^age` for an age of at least 1, to the last digits for rates near 1."""
    if isinstance(decay, int | float):
        log = jnp.asarray(math.log(decay) if decay > 0 else -math.inf, dtype)
    else:
        log = jnp.log(jnp.asarray(decay, dtype))
    return -jnp.expm1(age.astype(dtype) * log)


def weigh_newest(decay: Scalar, steps: Array, dtype: Any) -> Array:
    """Compute the weight of the newest of `steps + 1` numbers in their bias-corrected average."""
    first = steps == 0
    weight = jnp.asarray(1 - decay, dtype) / bias_correction(decay, steps + 1, dtype)
    return jnp.where(first, 1, weight)


def adagrad(b_init: Scalar, reweight: Scalar = 1.0) -> Scale:
    """Make the scale `b^2 <- b^2 + reweight n^2`."""
    _check(b_init)
    _validate.positive("reweight", reweight)

    def accumulate(b: Array, sizes: Array, count: Array) -> Array:
        weighted = jnp.sqrt(jnp.asarray(reweight, b.dtype)) * sizes
        later = hypot(b, weighted)
        # The difference of the squares over the sum, in halves: neither overflows.
        change = weighted / 2 * (weighted / (later / 2 + b / 2))
        return _floor(_limit(add_evenly(b, change, count)))

    return Scale(b_init, accumulate)


def adam(b_init: Scalar, b2: Scalar) -> Scale:
    """Make the scale `b^2 <- b2 b^2 + (1 - b2) n^2`."""
    _check(b_init)
    _validate.open_unit("b2", b2)

    def accumulate(b: Array, sizes: Array, count: Array) -> Array:
        old, new = weights(b2, b.dtype)
        later = hypot(jnp.sqrt(old) * b, jnp.sqrt(new) * sizes)
        change = new * (sizes - b) * ((sizes / 2 + b / 2) / (later / 2 + b / 2))
        # A fall by more than half is no small change: nothing would be left of its digits.
        exact = _limit(add_evenly(b, change, count))
        return _floor(jnp.where(later > b / 2, exact, later))

    return Scale(b_init, accumulate)


def power_mean(old: Array, new: Array, weight: Scalar, exponent: Scalar) -> Array:
    """Compute `(weight old^a + (1 - weight) new^a)^(1/a)` of non-negative numbers.

    The powers are of ratios, so that neither they nor the result overflow.
    """
    kept, fresh = weights(weight, old.dtype)
    if isinstance(exponent, int | float) and exponent == 1:
        return kept * old + fresh * new
    large = jnp.maximum(old, new)
    zero = large == 0
    unit = jnp.where(zero, 1, large)
    power = jnp.asarray(exponent, old.dtype)
    mean = kept * (old / unit) ** power + fresh * (new / unit) ** power
    return jnp.where(zero, 0, large * jnp.where(zero, 1, mean) ** (1 / power))


def hypot(a: Array, b: Array) -> Array:
    """Compute `sqrt(a^2 + b^2)` of non-negative numbers; neither squares nor result overflow."""
    large, small = jnp.maximum(a, b), jnp.minimum(a, b)
    zero = large == 0
    ratio = jnp.where(zero, 0, small / jnp.where(zero, 1, large))
    return jnp.minimum(large * jnp.sqrt(1 + ratio**2), jnp.finfo(a.dtype).max)


def _limit(b: Array) -> Array:
    """Keep a scale finite."""
    return jnp.minimum(b, jnp.finfo(b.dtype).max)


def _check(b_init: Scalar) -> None:
    # Its inverse is the first factor, and must be finite.
    _validate.number("b_init", b_init, "in [1e-37, 1e37]", lambda b: 1e-37 <= b <= 1e37)


def _floor(b: Array) -> Array:
    """Keep the inverse finite: a decaying scale falls to zero if all sizes are zero."""
    return jnp.maximum(b, jnp.finfo(b.dtype).smallest_normal)
