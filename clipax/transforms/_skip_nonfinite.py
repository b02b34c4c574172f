"""The wrapper that skips steps with a gradient that is not finite."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax

from clipax import _validate
from clipax._export import exportable
from clipax._typing import Array, AxisName, Params, Updates, Where
from clipax.engine import Counts, add_step, init_counts, make_skippable, make_transformation
from clipax.measure import all_finite, name_leaves
from clipax.scopes import Scope
from clipax.transforms._guards import Check, make_judge, resolve_scope, silence_excluded

__all__ = ["SkipNonfiniteState", "skip_nonfinite"]


class _State(NamedTuple):
    counts: Array
    inner: Any


@exportable
class SkipNonfiniteState(Counts, _State):
    """State of `skip_nonfinite`.

    Attributes:
      counts: Counts of steps, to be read by the properties of this class.
      inner: State of the transformation inside; it knows nothing of skipped steps.
    """

    __slots__ = ()


def skip_nonfinite(
    inner: optax.GradientTransformation,
    *,
    check: Check = "gradient",
    exclude: Where | None = None,
    scope: str | Scope = "global",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Skip steps with a non-finite gradient: parameters and the inner state stay as they are.

    A clip that zeroes a bad gradient protects itself but not the links behind it: `optax.adam`
    still moves on a zero update. Wrap the whole optimizer, before `optax.MultiSteps`.

        (u_t, s_t) = inner(g_t, s_{t-1})  if g_t is finite,
        else (0, s_{t-1})

    Args:
      inner: The transformation or optimizer to protect, with the state `s`.
      check: `"gradient"` (default) or `"result"`, which skips also where the update, or a number of
        the new state that was finite, is not: `optax.adam` squares 1e38 to infinity, for good.
      exclude: Leaves, as for `clip_by_param_norm`, that are not judged: frozen ones, for example.
      scope: As for `scale_by_norm`; only what it excludes matters here.
      axis_name: As for `scale_by_norm`; all devices skip together.

    Returns:
      A `GradientTransformationExtraArgs` with a `SkipNonfiniteState`.

    Notes:
      - In a skipped step the state of `inner` stays bit for bit, and its schedules do not advance.
        On GPU and TPU, and under `vmap`, it is run (with its callbacks) and its result dropped.
      - `check="result"`: around `optax.adam` on a GPU 12 P in place of 8 (P: parameters' bytes).
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
    _validate.axis_name(axis_name)
    spec = resolve_scope(scope, exclude)
    run = make_skippable(inner, make_judge(check, spec, axis_name))

    def init(params: Params) -> SkipNonfiniteState:
        name_leaves(params, spec, check_patterns=True)
        return SkipNonfiniteState(init_counts(), run.init(params))

    def update(
        updates: Updates, state: SkipNonfiniteState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, SkipNonfiniteState]:
        leaves, structure = name_leaves(updates, spec)
        updates = jax.tree.unflatten(structure, silence_excluded(leaves))
        judged = [leaf for leaf in leaves if not leaf.block.excluded]
        finite = all_finite(judged, axis_name=axis_name)
        finite, updates, inner_state = run.update(finite, updates, state.inner, params, extra)
        counts = add_step(state.counts, skipped=~finite, nonfinite=~finite)
        return updates, SkipNonfiniteState(counts, inner_state)

    return make_transformation(init, update, SkipNonfiniteState)
