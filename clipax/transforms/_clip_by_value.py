"""The clip of every entry by itself."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from clipax import _validate, scopes
from clipax._export import exportable
from clipax._typing import Array, AxisName, NonFinite, Params, ScalarOrSchedule, Updates
from clipax.engine import make_transformation
from clipax.measure import name_leaves, wide_dtype
from clipax.norms._factors import RESPONSES

__all__ = ["ClipByValueState", "as_limit", "clip_by_value", "cut_entries"]


@exportable
class ClipByValueState(NamedTuple):
    """State of `clip_by_value`.

    Attributes:
      steps: Number of steps.
    """

    steps: Array


def clip_by_value(
    threshold: ScalarOrSchedule,
    *,
    response: str = "hard",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Clip every entry of the gradient by itself ("coordinate-wise").

    The direction of the gradient changes. Prefer it against outliers in single coordinates.

        u_j = max(-c, min(c, g_j))  or  u_j = f(|g_j|) g_j

    Args:
      threshold: Largest magnitude `c`: a number (infinity: never clip) or a schedule.
      response: `"hard"` (default), the first form; `"sqrt"`, `"rational"`, `"tanh"` or `"huber"`,
        the second with the factor `f` of `clip_by_smooth_norm`, which is not the papers'.
      nonfinite: `"zero"` (default): NaN becomes 0, infinity is clipped; `"propagate"`: both NaN.
      axis_name: Accepted for uniformity, without effect: no entry needs another shard.

    Returns:
      A `GradientTransformationExtraArgs` with a `ClipByValueState`.

    Notes:
      - No entry exceeds the threshold, rounded to the leaf's dtype. Entries within it (`"huber"`:
        within half of it) are kept, but for subnormal ones, which XLA may set to zero.
      - Complex entries keep their phase. An infinite entry becomes 0 if it is complex or the
        threshold is infinite.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip, grads = clipax.clip_by_value(1.0), jnp.array([0.5, -3.0, jnp.inf, jnp.nan])
      >>> print(clip.update(grads, clip.init(grads))[0])
      [ 0.5 -1.   1.   0. ]

    References:
      Chezhegov et al., arXiv 2406.04443 (experiments); J. Zhang et al., arXiv 1912.03194.
    """
    if callable(threshold):
        _validate.schedule("threshold", threshold)
    else:
        _validate.threshold("threshold", threshold)
    _validate.one_of("response", response, RESPONSES)
    _validate.one_of("nonfinite", nonfinite, ("zero", "propagate"))
    del axis_name
    scope = scopes.resolve("leaf")

    def init(params: Params) -> ClipByValueState:
        name_leaves(params, scope)  # refuses integer leaves before the first step
        return ClipByValueState(jnp.zeros((), jnp.int32))

    def update(
        updates: Updates, state: ClipByValueState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, ClipByValueState]:
        del params, extra
        now = threshold(state.steps) if callable(threshold) else threshold
        leaves, structure = name_leaves(updates, scope)
        clipped = [
            _clip(leaf.value, now, response, propagate=nonfinite == "propagate") for leaf in leaves
        ]
        new_state = ClipByValueState(optax.safe_increment(state.steps))
        return jax.tree.unflatten(structure, clipped), new_state

    def remembers(state: ClipByValueState) -> Any:
        return state if callable(threshold) else ()

    return make_transformation(init, update, ClipByValueState, remembers=remembers)


def _clip(value: Array, threshold: Any, response: str, *, propagate: bool) -> Array:
    """Clip the entries of a leaf."""
    kind = jnp.finfo(value.dtype)
    limit = as_limit(threshold, float)
    # A finite threshold stays finite in the type of the leaf.
    limit = jnp.where(jnp.isinf(limit), limit, jnp.minimum(limit, float(kind.max)))
    limit = limit.astype(kind.dtype)
    # In float32 at least: XLA for CPU converts a narrow type forth and back for every selection.
    like, wide = value.dtype, wide_dtype(value.dtype, jnp.float32)
    value, limit = value.astype(wide), limit.astype(jnp.finfo(wide).dtype)
    if response == "hard":
        result = cut_entries(value, limit)
    else:
        result = _bend_entries(value, limit, response)
    return (jnp.where(jnp.isfinite(value), result, jnp.nan) if propagate else result).astype(like)


def as_limit(threshold: Any, dtype: Any) -> Array:
    """Convert a threshold to an array; a schedule's negative number or NaN is zero."""
    limit = _validate.to_float(threshold, dtype)
    return jnp.where(limit >= 0, limit, 0)


def cut_entries(value: Array, limit: Array) -> Array:
    """Cut entries at a magnitude; NaN becomes 0, and so does infinity without a limit."""
    if jnp.iscomplexobj(value):
        finite = jnp.where(jnp.isfinite(value), value, 0)
        size = jnp.abs(finite)
        outside = size > limit
        factor = jnp.where(outside, limit / jnp.where(outside, size, 1), 1)
        return finite * factor.astype(value.dtype)
    cut = jnp.clip(value, -limit, limit)
    return jnp.where(jnp.isfinite(cut), cut, 0)


def _bend_entries(value: Array, limit: Array, response: str) -> Array:
    """Multiply entries by a smooth response; non-finite ones are treated as in `cut_entries`."""
    info = jnp.finfo(limit.dtype)
    limit = jnp.maximum(limit, info.smallest_normal)
    # All responses reach the limit long before this, and beyond it a factor could underflow.
    beyond = jnp.where(jnp.isinf(limit), limit, jnp.minimum(limit * 2.0**60, float(info.max)))
    inside = cut_entries(value, beyond)
    factor = RESPONSES[response](jnp.abs(inside), limit)
    return cut_entries(inside * factor, limit)
