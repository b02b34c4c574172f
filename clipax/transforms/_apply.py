"""Applies factors to the leaves of a gradient: one multiplication, with momentum in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from clipax._typing import Array, Scalar
from clipax.measure import Leaf, by_path, narrow, row_of, spread, wide_dtype

__all__ = ["Plan", "apply"]


class Plan(NamedTuple):
    """What one step does with the blocks of one label; arrays of the norms' shape.

    Attributes:
      factor: Multiplies the gradient.
      divisor: Multiplies what momentum makes of it.
      finite: Where the norms are finite; elsewhere the update is filled and memory kept.
    """

    factor: Array
    divisor: Array
    finite: Array


def apply(
    leaves: Sequence[Leaf],
    plans: Mapping[str, Plan],
    params: Sequence[Array] | None,
    momentum: Any,
    b1: Scalar | None,
    weight_decay: Scalar | None,
    fill: float,
) -> tuple[list[Array], Any]:
    """Scales the leaves as planned.

    Args:
      leaves: The gradient's leaves.
      plans: What to do, by label.
      params: The parameters of the leaves, where there is weight decay.
      momentum: The moving average so far, a tree; None without `b1`.
      b1: Its decay rate, or None.
      weight_decay: Coefficient of the parameters, or None.
      fill: What stands in an update for a block that is not finite.

    Returns:
      The scaled leaves and the new moving average.
    """
    averages = {} if b1 is None else by_path(momentum)
    scaled = []
    for place, leaf in enumerate(leaves):
        factor, divisor, finite = (spread(part, leaf) for part in plans[leaf.block.label])
        like, wide = leaf.value.dtype, wide_dtype(leaf.value.dtype, factor.dtype)
        value = leaf.value.astype(wide)
        if weight_decay is not None and params is not None:
            value += params[place].astype(wide) * jnp.asarray(weight_decay, factor.dtype)
        # Selected in the wide type, before the multiplication: after the cast it would cost a pass.
        if b1 is None:
            value = jnp.where(finite, value, fill) * (factor * divisor)
        else:
            old = row_of(averages, leaf.path)
            fresh = value * (factor * jnp.asarray(1 - b1, factor.dtype))
            mixed = old.astype(wide) * jnp.asarray(b1, factor.dtype) + fresh
            # The update is made from the average as it is stored: made from `mixed`, XLA would
            # compute that again from the old average, and copy the old one first.
            new = narrow(jnp.where(finite, mixed, old.astype(wide)), old.dtype)
            averages[leaf.path] = new
            value = new.astype(wide) * jnp.where(finite, divisor, fill)
        scaled.append(value.astype(like))
    if b1 is None:
        return scaled, None
    return scaled, jax.tree.unflatten(jax.tree.structure(momentum), list(averages.values()))
