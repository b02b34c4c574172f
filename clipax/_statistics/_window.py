"""The norms of the last steps, for thresholds that are read off them."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from clipax._export import exportable
from clipax._typing import Array

__all__ = ["WindowState", "init", "insert", "order_statistic", "rank", "select", "update"]


@exportable
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


def init(shape: tuple[int, ...], window: int) -> WindowState:
    """Make the state before the first step."""
    return WindowState(
        jnp.zeros((*shape, window), float),
        jnp.zeros((*shape, window), float),
        jnp.zeros(shape, jnp.int32),
        jnp.zeros(shape, jnp.int32),
    )


def update(state: WindowState, norms: Array) -> WindowState:
    """Add one norm of each block, in place of the oldest once the ring is full.

    Comparisons and shifts alone, which XLA compiles to plain loops over the window; sorting, or
    indexing block by block, takes many times as long.
    """
    window = state.norms.shape[-1]
    new = norms.astype(state.norms.dtype)[..., None]
    places = jnp.arange(window, dtype=jnp.int32)
    here = places == state.position[..., None]
    old = select(state.norms, state.position)[..., None]
    # Drop the old norm, or one that equals it.
    kept = places[:-1] < _count(state.ordered < old)
    others = jnp.where(kept, state.ordered[..., :-1], state.ordered[..., 1:])
    return WindowState(
        jnp.where(here, new, state.norms),
        insert(others, norms),
        (state.position + 1) % window,
        jnp.minimum(state.filled + 1, window),
    )


def insert(ordered: Array, norms: Array) -> Array:
    """Insert each norm into its ascending row, before equal values."""
    new = norms.astype(ordered.dtype)[..., None]
    places = jnp.arange(ordered.shape[-1] + 1, dtype=jnp.int32)
    place = _count(ordered < new)
    return jnp.where(
        places < place,
        jnp.concatenate([ordered, new], axis=-1),
        jnp.where(places == place, new, jnp.concatenate([new, ordered], axis=-1)),
    )


def order_statistic(state: WindowState, rank: Array) -> Array:
    """Select the norm of a rank, counted from 1, among those that the ring holds."""
    place = state.norms.shape[-1] - state.filled + rank - 1
    return select(state.ordered, place)


def select(numbers: Array, place: Array) -> Array:
    """Select the number at a place of the last axis.

    A masked sum: XLA computes a reduction once, but would fuse an indexed access into the scaling
    of every leaf and repeat it there.
    """
    here = jnp.arange(numbers.shape[-1], dtype=jnp.int32) == place[..., None]
    return jnp.sum(jnp.where(here, numbers, 0), axis=-1)


def rank(share: Array, count: Array) -> Array:
    """Compute `ceil(share * count)`, in [1, count].

    A product that exceeds a whole number by no more than rounding can explain (.1 * 30 in
    floating point) counts as that number.
    """
    exact = share * count.astype(share.dtype)
    rounded = jnp.ceil(exact * (1 - 4 * jnp.finfo(share.dtype).eps)).astype(jnp.int32)
    return jnp.clip(rounded, 1, jnp.maximum(count, 1))


def _count(holds: Array) -> Array:
    """Count along the last axis, which stays."""
    return jnp.sum(holds, axis=-1, keepdims=True, dtype=jnp.int32)
