"""The wrapper that skips steps with a gradient that is not finite."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from clipax import scopes
from clipax._typing import Array, AxisName, Params, Updates
from clipax.engine import make_skippable
from clipax.measure import all_finite, name_leaves

__all__ = ["SkipNonfiniteState", "begin", "proceed", "skip_nonfinite"]


class SkipNonfiniteState(NamedTuple):
    """State of `skip_nonfinite`.

    Attributes:
      steps: Number of steps, skipped ones included.
      skipped_count: Number of steps skipped.
      is_finite: Whether the last gradient was finite.
      inner: State of the transformation inside; it knows nothing of skipped steps.
    """

    steps: Array
    skipped_count: Array
    is_finite: Array
    inner: Any


def skip_nonfinite(
    inner: optax.GradientTransformation, *, axis_name: AxisName = None
) -> optax.GradientTransformationExtraArgs:
    r"""Skip steps with a non-finite gradient: parameters and the inner state stay as they are.

    A clip that zeroes a bad gradient protects itself but not the links behind it: `optax.adam`
    still moves on a zero update. Wrap the whole optimizer, before `optax.MultiSteps`.

    .. math:: (u_t, s_t) = \begin{cases} \mathrm{inner}(g_t, s_{t-1}) & g_t \text{ finite} \\
        (0, s_{t-1}) & \text{otherwise} \end{cases}

    Args:
      inner: The transformation or optimizer to protect, with the state :math:`s`.
      axis_name: As for `scale_by_norm`; all devices skip together.

    Returns:
      A `GradientTransformationExtraArgs` with a `SkipNonfiniteState`.

    Notes:
      - In a skipped step the state of `inner` stays bit for bit, and its schedules do not advance.
        On GPU and TPU, and under `vmap`, it is run (with its callbacks) and its result dropped.
      - Finite entries of any size pass; `optax.adam` squares 1e38 to infinity: see `skip_spikes`.
      - `optax.apply_if_finite` looks at the update, and gives in after some failures in a row.

    Example:
      >>> import jax.numpy as jnp, optax, clipax
      >>> optimizer = clipax.skip_nonfinite(optax.sgd(0.1))
      >>> grads = jnp.array([1.0, jnp.nan])
      >>> update, state = optimizer.update(grads, optimizer.init(grads))
      >>> print(update, state.skipped_count)
      [0. 0.] 1

    References:
      Common practice with mixed precision; no paper.
    """
    run = make_skippable(inner)
    scope = scopes.resolve("global")

    def init(params: Params) -> SkipNonfiniteState:
        return begin(run.init(params))

    def update(
        updates: Updates, state: SkipNonfiniteState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, SkipNonfiniteState]:
        leaves, structure = name_leaves(updates, scope)
        updates = jax.tree.unflatten(structure, [leaf.value for leaf in leaves])
        finite = all_finite(leaves, axis_name=axis_name)
        updates, inner_state = run.update(finite, updates, state.inner, params, extra)
        return updates, proceed(state, finite, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def begin(inner: Any) -> SkipNonfiniteState:
    """Make the state before the first step."""
    steps, skipped = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)  # two, to be donated
    return SkipNonfiniteState(steps, skipped, is_finite=jnp.array(True), inner=inner)


def proceed(state: SkipNonfiniteState, finite: Array, inner: Any) -> SkipNonfiniteState:
    """Count a step, which is skipped unless its gradient is finite."""
    return SkipNonfiniteState(
        steps=optax.safe_increment(state.steps),
        skipped_count=state.skipped_count + (~finite).astype(jnp.int32),
        is_finite=finite,
        inner=inner,
    )
