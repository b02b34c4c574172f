"""The norms of the last steps, for thresholds that are read off them."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from clipax._typing import Array, Scalar, ScalarOrSchedule

__all__ = [
    "WindowState",
    "first",
    "floored",
    "inserted",
    "order_statistic",
    "probability",
    "pushed",
    "rank",
    "taken",
]


class WindowState(NamedTuple):
    """The last norms, in the order of time and of size.

    Each array's leading shape is that of the norms. Places that hold no norm yet are zero, and so
    come first in the order of size.

    Attributes:
      norms: A ring; one more axis than the norms have.
      ordered: The same numbers, ascending.
      position: Where in the ring the next norm goes, int32.
      filled: How many norms the ring holds, int32.
    """

    norms: Array
    ordered: Array
    position: Array
    filled: Array


def first(shape: tuple[int, ...], window: int) -> WindowState:
    """The state before the first step."""
    return WindowState(
        jnp.zeros((*shape, window), float),
        jnp.zeros((*shape, window), float),
        jnp.zeros(shape, jnp.int32),
        jnp.zeros(shape, jnp.int32),
    )


def pushed(state: WindowState, norms: Array) -> WindowState:
    """The state with one more norm of each block, in place of the oldest once the ring is full.

    Comparisons and shifts alone: plain loops over the window, where sorting, or indexing block by
    block, takes many times as long.
    """
    window = state.norms.shape[-1]
    new = norms.astype(state.norms.dtype)[..., None]
    places = jnp.arange(window, dtype=jnp.int32)
    here = places == state.position[..., None]
    old = taken(state.norms, state.position)[..., None]
    # Without the old norm, or one of its equals.
    kept = places[:-1] < _count(state.ordered < old)
    others = jnp.where(kept, state.ordered[..., :-1], state.ordered[..., 1:])
    return WindowState(
        jnp.where(here, new, state.norms),
        inserted(others, norms),
        (state.position + 1) % window,
        jnp.minimum(state.filled + 1, window),
    )


def inserted(ordered: Array, norms: Array) -> Array:
    """The ordered numbers and one norm of each block more, in front of the first as large."""
    new = norms.astype(ordered.dtype)[..., None]
    places = jnp.arange(ordered.shape[-1] + 1, dtype=jnp.int32)
    place = _count(ordered < new)
    return jnp.where(
        places < place,
        jnp.concatenate([ordered, new], axis=-1),
        jnp.where(places == place, new, jnp.concatenate([new, ordered], axis=-1)),
    )


def order_statistic(state: WindowState, rank: Array) -> Array:
    """The norm of a rank from 1 among those that the ring holds."""
    place = state.norms.shape[-1] - state.filled + rank - 1
    return taken(state.ordered, place)


def taken(numbers: Array, place: Array) -> Array:
    """The number at a place of the last axis.

    As a sum over the axis, which XLA works out once; it would repeat an indexed access in the
    scaling of every leaf.
    """
    here = jnp.arange(numbers.shape[-1], dtype=jnp.int32) == place[..., None]
    return jnp.sum(jnp.where(here, numbers, 0), axis=-1)


def rank(share: Array, count: Array) -> Array:
    """`ceil(share * count)` in [1, count].

    A product that lies above a whole number by no more than rounding can explain (.1 * 30 in
    floating point) counts as that number.
    """
    exact = share * count.astype(share.dtype)
    rounded = jnp.ceil(exact * (1 - 4 * jnp.finfo(share.dtype).eps)).astype(jnp.int32)
    return jnp.clip(rounded, 1, jnp.maximum(count, 1))


def probability(quantile: ScalarOrSchedule, count: Scalar) -> Array:
    """A quantile at a 0-based step; what a schedule overshoots is taken as 0 or 1, NaN as 0."""
    # The default float type: float64 where x64 is on, else float32.
    now = jnp.asarray(quantile(count) if callable(quantile) else quantile, float)
    return jnp.where(now > 0, jnp.minimum(now, 1), 0)


def floored(threshold: Array) -> Array:
    """At least the smallest normal number: a clip needs a positive threshold."""
    return jnp.maximum(threshold, jnp.finfo(threshold.dtype).smallest_normal)


def _count(holds: Array) -> Array:
    """How many along the last axis, which stays."""
    return jnp.sum(holds, axis=-1, keepdims=True, dtype=jnp.int32)
