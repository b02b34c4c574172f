"""Updates that arrive late."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from clipax import _validate, scopes
from clipax._typing import Array, AxisName, NonFinite, Params, Updates
from clipax.measure import by_path, named_leaves, narrow, row_of

__all__ = ["DelayUpdatesState", "delay_updates"]


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
    r"""Hands on the update of `delay` steps ago.

    It simulates stale gradients, as asynchronous workers see them. For the delayed *stepsize* of
    Clip-AdaGrad-Norm use the `delay` of `clip_adagrad_norm`, which keeps no copy of a gradient.

    .. math:: u_t = g_{t-d}, \qquad u_t = 0 \text{ for } t < d

    with :math:`d` the `delay`.

    Args:
      delay: Number of steps, at least 0; None or 0: no delay and no memory.
      nonfinite: `"zero"` (default): NaN and infinite entries are remembered as 0; `"propagate"`:
        the same, and the update of the step in which they arrive is NaN at those entries.
      axis_name: Accepted as everywhere; it has no effect.

    Returns:
      A `GradientTransformationExtraArgs` with a `DelayUpdatesState`: `delay + 1` copies of the
      parameters in memory, of which one is written and one read a step (XLA for CPU rewrites all of
      them in bfloat16).

    Guarantees:
      Bit for bit the earlier update, where it has the parameters' dtype (it is remembered in that).
      No NaN or infinity enters the state.

    Edge cases:
      ==================== ============================================
      input                update
      ==================== ============================================
      the first steps      zero, as many as `delay`
      `None` for a leaf    `None`; its slots are kept
      `delay = 0`          the gradient, its bad entries 0 (or NaN)
      ==================== ============================================

    Sharding:
      No communication; slots are sharded like the parameters, behind a new first axis.

    Raises:
      TypeError: `delay` is not a concrete integer.
      ValueError: `delay` is negative, `nonfinite` unknown.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> late = clipax.delay_updates(1)
      >>> state = late.init(jnp.zeros(1))
      >>> for step in (1.0, 2.0, 3.0):
      ...     update, state = late.update(jnp.array([step]), state)
      ...     print(update)
      [0.]
      [1.]
      [2.]

    References:
      A building block; no paper.

    Differences from the paper:
      The delay of S. Chezhegov et al., arXiv 2406.04443, concerns the stepsize alone; the code
      that its authors published also delays the gradient, which this reproduces behind a stepsize.
    """
    steps = _validate.optional_index("delay", delay)
    _validate.one_of("nonfinite", nonfinite, ("zero", "propagate"))
    del axis_name
    scope = scopes.resolve("leaf")

    def init(params: Params) -> DelayUpdatesState:
        leaves, structure = named_leaves(params, scope)
        # Made from the leaves, so that they are sharded alike.
        empty = [jnp.zeros_like(leaf.value, dtype=leaf.value.dtype)[None] for leaf in leaves]
        slots = [jnp.broadcast_to(one, (steps + 1, *one.shape[1:])) for one in empty]
        position = jnp.zeros((), jnp.int32)
        return DelayUpdatesState(position, jax.tree.unflatten(structure, slots) if steps else None)

    def update(
        updates: Updates, state: DelayUpdatesState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, DelayUpdatesState]:
        del params, extra
        leaves, structure = named_leaves(updates, scope)
        # Written before it is read, with a slot to spare: the buffer is updated in place in a
        # jitted loop and in a scan alike.
        following = (state.position + 1) % (steps + 1)
        slots = by_path(state.slots)
        late = []
        for leaf in leaves:
            finite = jnp.isfinite(leaf.value)
            result = jnp.where(finite, leaf.value, 0)
            if steps:
                slot = row_of(slots, leaf.path)
                slot = lax.dynamic_update_index_in_dim(
                    slot, narrow(result, slot.dtype), state.position, 0
                )
                slots[leaf.path] = slot
                result = lax.dynamic_index_in_dim(slot, following, 0, keepdims=False)
                result = result.astype(leaf.value.dtype)
            late.append(jnp.where(finite, result, jnp.nan) if nonfinite == "propagate" else result)
        kept = jax.tree.unflatten(jax.tree.structure(state.slots), list(slots.values()))
        return jax.tree.unflatten(structure, late), DelayUpdatesState(following, kept)

    return optax.GradientTransformationExtraArgs(init, update)
