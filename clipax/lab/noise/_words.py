"""From 32-bit random words to numbers between 0 and 1, and a fast sine.

A uniform number in float32 is a multiple of 2^-23, which would cap a Pareto law of index 1.5 at
4e4: "heavy-tailed" noise that is bounded. A word read as `(word + 1/2) 2^-32` keeps its leading
zeros, so that a tail reaches as far as the words do, and it is never 0: every variate is finite.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from clipax._typing import Array

__all__ = ["exponential", "flip", "half_unit", "sine", "tail_exponential", "unit"]

# sin(x)/x as a polynomial in x^2 on [0, pi/2]: relative error 5e-9, below float32's rounding.
_SINE = (
    0.9999999946859969,
    -0.1666665668399337,
    0.008333025138705333,
    -0.00019807418710933778,
    2.6019030351571574e-06,
)


def unit(word: Array) -> Array:
    """Convert a word to a number in (0, 1], to float32's relative precision near 0."""
    return (word.astype(jnp.float32) + 0.5) * 2.0**-32


def half_unit(word: Array) -> Array:
    """Convert all bits but the lowest to a number in (0, 1]; the lowest is left for a sign."""
    # Signed integers convert in one instruction, unsigned ones do not.
    return ((word >> 1).astype(jnp.int32).astype(jnp.float32) + 0.5) * 2.0**-31


def flip(word: Array, magnitude: Array) -> Array:
    """Give the magnitude a sign from the word's lowest bit, independent of `half_unit`."""
    bits = lax.bitcast_convert_type(magnitude, jnp.uint32) ^ ((word & np.uint32(1)) << 31)
    return lax.bitcast_convert_type(bits, jnp.float32)


def exponential(word: Array) -> Array:
    """Make a standard exponential, with both ends of (0, 1) resolved: never 0, never infinite."""
    rest = unit(~word)
    near = rest < 0.5
    u = jnp.where(near, 1.0 - rest, unit(word))
    # Correct the rounding of `u` near 1: log(1 - r) is log(u) r/(1 - u) to first order.
    lost = jnp.where(near & (u < 1.0), rest / jnp.maximum(1.0 - u, 2.0**-25), 1.0)
    return jnp.where(u < 1.0, -jnp.log(u) * lost, rest)


def tail_exponential(word: Array) -> Array:
    """Make a standard exponential with one logarithm; values below 2^-24 are not resolved."""
    return jnp.maximum(-jnp.log(half_unit(word)), 2.0**-25)


def sine(x: Array) -> Array:
    """Compute the sine on [0, pi/2] by a polynomial, with a relative error below 2e-7."""
    square = x * x
    result = jnp.full_like(square, _SINE[-1])
    for coefficient in _SINE[-2::-1]:
        result = result * square + coefficient
    return result * x
