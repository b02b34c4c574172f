"""Rounding up and down by turns, for what is added up over millions of steps.

Rounded to the nearest, an average in bfloat16 stands still where its change is below half of its
last bit, and a float32 scale falls behind in the same way. Here a number is rounded up as often as
its place between two neighbours says, by a sequence that fills the unit interval evenly: sums of
rounding errors stay a few last bits long, where those of random rounding grow with the root of the
steps. It takes no memory, and no random numbers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from clipax._typing import Array

__all__ = ["add_evenly", "round_evenly"]

_GOLDEN = np.uint32(2654435769)
"""The golden ratio times 2^32: multiples of it fill the unit interval most evenly."""
_EXPONENT = np.uint32(0x7F800000)


def add_evenly(value: Array, change: Array, count: Array) -> Array:
    """Add a small change to a non-negative number, rounded up and down by turns of `count`.

    In double precision, and where `value` is near the smallest numbers, to the nearest.
    """
    if value.dtype != jnp.float32:
        return value + change
    bits = lax.bitcast_convert_type(lax.stop_gradient(value), jnp.uint32) & _EXPONENT
    last = lax.bitcast_convert_type(bits, jnp.float32) * float(jnp.finfo(jnp.float32).eps)
    share = (_turn(count) >> 8).astype(jnp.int32).astype(jnp.float32) * 2.0**-24
    moved = value + (change + (share - 0.5) * last)
    # Never against the change: below a power of two numbers are twice as dense.
    return jnp.where(change >= 0, jnp.maximum(moved, value), jnp.minimum(moved, value))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def round_evenly(value: Array, dtype: Any, count: Array) -> Array:
    """Round float32 numbers to those of a narrower type, up and down by turns of `count`.

    They stay in float32: a cast to the type is then exact, but for subnormal numbers.
    """
    narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    if value.dtype != jnp.float32 or not narrow:
        return value
    dropped = 23 - jnp.finfo(dtype).nmant
    bits = lax.bitcast_convert_type(value, jnp.uint32) + (_turn(count) >> (32 - dropped))
    kept = np.uint32((1 << 32) - (1 << dropped))
    return lax.bitcast_convert_type(bits & kept, jnp.float32)


@round_evenly.defjvp
def _round_evenly_jvp(dtype: Any, primals: Any, tangents: Any) -> tuple[Array, Array]:
    value, count = primals
    return round_evenly(value, dtype, count), tangents[0]


def _turn(count: Array) -> Array:
    """Return the place of a step in the sequence, as 32 bits behind the point."""
    return count.astype(jnp.uint32) * _GOLDEN
