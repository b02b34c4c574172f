"""Steps that are left out because the gradient is not finite."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from clipax import scopes
from clipax._typing import Array, AxisName, Params, Updates
from clipax.measure import all_finite, named_leaves

__all__ = ["SkipNonfiniteState", "skip_nonfinite"]

_NUMBERS = (jax.Array, np.ndarray, np.generic, float, int, complex)


class SkipNonfiniteState(NamedTuple):
    """State of `skip_nonfinite`.

    Attributes:
      count: Number of steps, skipped ones included.
      skipped_count: Number of steps skipped.
      is_finite: Whether the last gradient was finite.
      inner_state: State of the transformation inside; it knows nothing of skipped steps.
    """

    count: Array  # type: ignore[assignment]  # hides tuple.count, as optax's states do
    skipped_count: Array
    is_finite: Array
    inner_state: Any


def skip_nonfinite(
    inner: optax.GradientTransformation, *, axis_name: AxisName = None
) -> optax.GradientTransformationExtraArgs:
    r"""Makes a step with a non-finite gradient a no-op for the parameters and the inner state.

    A clip that zeroes a bad gradient protects itself, not what follows it: `optax.adam` still
    moves on a zero update. Wrap the whole optimizer in this one, in front of `optax.MultiSteps`.

    .. math::
        (u_t, s_t) = \begin{cases} \mathrm{inner}(g_t, s_{t-1}) & g_t \text{ finite} \\
        (0, s_{t-1}) & \text{otherwise} \end{cases}

    Args:
      inner: The transformation or optimizer to protect.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.
        All devices skip together.

    Returns:
      A `GradientTransformationExtraArgs` with a `SkipNonfiniteState`.

    Guarantees:
      After a bad step the inner state is bit for bit what it was: the inner transformation is not
      run (under `vmap` its result is selected away), nothing is multiplied by zero.

    Edge cases:
      ===================================== ==============================================
      gradient                              step
      ===================================== ==============================================
      one NaN or infinity anywhere          skipped: zero update, inner state kept
      finite entries of any size            taken, as by `inner` alone
      schedules inside `inner`              do not advance on a skipped step
      ===================================== ==============================================

    Sharding:
      One all-reduce of a scalar.

    Raises:
      TypeError: `inner` is not a gradient transformation, or (when used) a leaf is an integer.

    Example:
      >>> import jax.numpy as jnp, optax, clipax
      >>> optimizer = clipax.skip_nonfinite(optax.sgd(0.1))
      >>> params = jnp.ones(2)
      >>> state = optimizer.init(params)
      >>> update, state = optimizer.update(jnp.array([1.0, jnp.nan]), state, params)
      >>> print(update, state.skipped_count)
      [0. 0.] 1

    References:
      Common practice with mixed precision; compare `optax.apply_if_finite`.

    Differences from the paper:
      There is no paper. `optax.apply_if_finite` looks at the update instead of the gradient and
      gives in after a number of consecutive failures; this one never does.
    """
    if not (callable(getattr(inner, "init", None)) and callable(getattr(inner, "update", None))):
        raise TypeError(f"`inner` must be an optax gradient transformation, got {inner!r}.")
    if isinstance(inner, optax.GradientTransformation):
        inner = optax.with_extra_args_support(inner)
    else:  # `optax.MultiSteps` has the functions of a transformation, and takes extra arguments
        inner = optax.GradientTransformationExtraArgs(inner.init, inner.update)
    scope = scopes.resolve("global")

    def take(updates: Updates, state: Any, params: Params, extra: Any) -> tuple[Updates, Any]:
        taken, new = inner.update(updates, state, params, **extra)
        return jax.tree.map(_strong, taken), jax.tree.map(_like, new, state)

    def stay(updates: Updates, state: Any, params: Params, extra: Any) -> tuple[Updates, Any]:
        shapes, _ = jax.eval_shape(partial(take, extra=extra), updates, state, params)
        zeros = jax.tree.map(
            lambda leaf, like: jnp.zeros_like(leaf, dtype=like.dtype), updates, shapes
        )
        return zeros, state

    def init(params: Params) -> SkipNonfiniteState:
        return SkipNonfiniteState(
            count=jnp.zeros((), jnp.int32),
            skipped_count=jnp.zeros((), jnp.int32),
            is_finite=jnp.ones((), bool),
            inner_state=jax.tree.map(_strong, inner.init(params)),
        )

    def update(
        updates: Updates, state: SkipNonfiniteState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, SkipNonfiniteState]:
        leaves, structure = named_leaves(updates, scope)
        updates = jax.tree.unflatten(structure, [leaf.value for leaf in leaves])
        finite = all_finite(leaves, axis_name=axis_name)
        operands = (updates, state.inner_state, params)
        # A conditional: with a selection XLA would write out both states, and copy them first.
        if all(isinstance(leaf, _NUMBERS) for leaf in jax.tree.leaves(extra)):
            # The same two functions at every step: where the step as a whole is not compiled, the
            # `cond` is, and is found again by its branches.
            taken, inner_state = lax.cond(finite, take, stay, *operands, extra)
        else:  # a function among the extra arguments, as line searches take
            taken, inner_state = lax.cond(
                finite, partial(take, extra=extra), partial(stay, extra=extra), *operands
            )
        return taken, SkipNonfiniteState(
            count=optax.safe_increment(state.count),
            skipped_count=state.skipped_count + (~finite).astype(jnp.int32),
            is_finite=finite,
            inner_state=inner_state,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _like(new: Any, old: Any) -> Any:
    """The new value in the type of the old one: a state keeps its types."""
    return new if new.dtype == old.dtype and not new.weak_type else new.astype(old.dtype)


def _strong(value: Any) -> Any:
    """An array without a weak type, which would change from the first step to the second."""
    return value.astype(value.dtype) if getattr(value, "weak_type", False) else value
