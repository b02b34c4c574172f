"""The transformation that gives updates late."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from clipax import _validate, scopes
from clipax._export import exportable
from clipax._typing import Array, AxisName, NonFinite, Params, Updates
from clipax.engine import make_transformation
from clipax.measure import find_row, index_by_path, name_leaves, narrow

__all__ = ["DelayUpdatesState", "delay_updates"]


@exportable
class DelayUpdatesState(NamedTuple):
    """State of `delay_updates`.

    Attributes:
      position: The slot that the next update is written to.
      slots: The last `delay + 1` updates of each leaf, along a new first axis; None without delay.
    """

    position: Array
    slots: Any


def delay_updates(
    delay: int | None, *, nonfinite: NonFinite = "zero", axis_name: AxisName = None
) -> optax.GradientTransformationExtraArgs:
    """Give the update of `delay` steps ago.

    It simulates stale gradients, as asynchronous workers see them. Prefer the `delay` of
    `clip_adagrad_norm`, which keeps no copy of a gradient, to delay a stepsize.

        u_t = g_{t-d},  u_t = 0 for t < d

    Args:
      delay: Number `d` of steps, a concrete integer; None or 0: no delay and no memory.
      nonfinite: Such entries are remembered as 0; with `"propagate"` they give NaN as they arrive.
      axis_name: Accepted for uniformity, without effect.

    Returns:
      A `GradientTransformationExtraArgs` with a `DelayUpdatesState`.

    Notes:
      The state holds `delay + 1` copies of the parameters, of which one is written and one read a
      step (in bfloat16 XLA for CPU rewrites all), in their dtype and sharded like them.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> late = clipax.delay_updates(1)
      >>> first, state = late.update(jnp.array([1.0]), late.init(jnp.zeros(1)))
      >>> print(first, late.update(jnp.array([2.0]), state)[0])
      [0.] [1.]

    References:
      No paper. Chezhegov et al., arXiv 2406.04443, delay the stepsize alone, their published code
      the gradient too, as this does behind a stepsize.
    """
    steps = _validate.optional_index("delay", delay)
    _validate.one_of("nonfinite", nonfinite, ("zero", "propagate"))
    del axis_name
    scope = scopes.resolve("leaf")

    def init(params: Params) -> DelayUpdatesState:
        leaves, structure = name_leaves(params, scope)
        # Made from the leaves, so that they are sharded alike.
        zeros = [jnp.zeros_like(leaf.value, dtype=leaf.value.dtype)[None] for leaf in leaves]
        slots = [jnp.broadcast_to(zero, (steps + 1, *zero.shape[1:])) for zero in zeros]
        position = jnp.zeros((), jnp.int32)
        return DelayUpdatesState(position, jax.tree.unflatten(structure, slots) if steps else None)

    def update(
        updates: Updates, state: DelayUpdatesState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, DelayUpdatesState]:
        del params, extra
        leaves, structure = name_leaves(updates, scope)
        # The write comes before the read, into a slot to spare: XLA then updates the buffer in
        # place, in a jitted loop and in a scan.
        following = (state.position + 1) % (steps + 1)
        slots = index_by_path(state.slots)
        late = []
        for leaf in leaves:
            finite = jnp.isfinite(leaf.value)
            result = jnp.where(finite, leaf.value, 0)
            if steps:
                slot = find_row(slots, leaf.path)
                slot = lax.dynamic_update_index_in_dim(
                    slot, narrow(result, slot.dtype), state.position, 0
                )
                slots[leaf.path] = slot
                result = lax.dynamic_index_in_dim(slot, following, 0, keepdims=False)
                result = result.astype(leaf.value.dtype)
            late.append(jnp.where(finite, result, jnp.nan) if nonfinite == "propagate" else result)
        kept = jax.tree.unflatten(jax.tree.structure(state.slots), list(slots.values()))
        return jax.tree.unflatten(structure, late), DelayUpdatesState(following, kept)

    return make_transformation(init, update, DelayUpdatesState)
