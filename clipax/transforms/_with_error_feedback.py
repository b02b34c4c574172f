"""Error feedback: the part of a gradient that a clip cuts off is not lost but comes later.

S. Khirirat, E. Gorbunov, S. Horvath, R. Islamov, F. Karray, P. Richtarik, "Clip21: Error
Feedback for Gradient Clipping", arXiv 2305.18929.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from clipax import scopes
from clipax._typing import Array, AxisName, Params, Updates
from clipax.engine._entries import wide_zeros_like
from clipax.measure import find_row, index_by_path, name_leaves, narrow
from clipax.transforms._skip_nonfinite import skip_nonfinite

__all__ = ["ErrorFeedbackState", "with_error_feedback"]


class ErrorFeedbackState(NamedTuple):
    """State of `with_error_feedback`, inside that of `skip_nonfinite`.

    Attributes:
      estimate: The updates of the last step: a tree like the parameters, in float32 or better.
      clip_state: State of the transformation inside.
    """

    estimate: Any
    clip_state: Any


def with_error_feedback(
    inner: optax.GradientTransformation, *, axis_name: AxisName = None
) -> optax.GradientTransformationExtraArgs:
    r"""Clip the change of the gradient instead of the gradient, and give the sum of the changes.

    Under a constant gradient the update reaches it and stays, where a clip alone cuts it for ever.
    Prefer it for gradients with little noise: a bad one takes steps to be undone too.

    .. math:: v_t = v_{t-1} + \mathrm{clip}(g_t - v_{t-1}), \qquad u_t = v_t, \qquad v_{-1} = 0

    Args:
      inner: Any :math:`\mathrm{clip}` of this package or of optax: it must keep small gradients.
      axis_name: As for `scale_by_norm`; give it to the clip too.

    Returns:
      A `GradientTransformationExtraArgs`: a `SkipNonfiniteState` around an `ErrorFeedbackState`.

    Notes:
      - From step to step the update changes by no more than the clip lets through. With a threshold
        tau it is a constant gradient of norm G, to rounding, from step `ceil(G/tau)` on.
      - Non-finite steps are skipped. `clipax.metrics` has `skipped_count` and norms of the changes.
        The memory is in float32 or better, sharded as parameters are.
      - The paper averages workers with a memory each: run it before `jax.lax.pmean`. Its noise for
        differential privacy is not here.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.with_error_feedback(clipax.clip_by_global_norm(2.0))
      >>> first, state = clip.update(jnp.array([3.0]), clip.init(jnp.zeros(1)))
      >>> print(first, clip.update(jnp.array([3.0]), state)[0])
      [2.] [3.]

    References:
      Khirirat et al., "Clip21: Error Feedback for Gradient Clipping", arXiv 2305.18929.
    """
    pair = getattr(inner, "init", None), getattr(inner, "update", None)
    if not all(callable(part) for part in pair):
        raise TypeError(f"`inner` must be an optax gradient transformation, got {inner!r}.")
    clip = optax.with_extra_args_support(inner)
    scope = scopes.resolve("leaf")

    def init(params: Params) -> ErrorFeedbackState:
        return ErrorFeedbackState(jax.tree.map(wide_zeros_like, params), clip.init(params))

    def update(
        updates: Updates, state: ErrorFeedbackState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, ErrorFeedbackState]:
        leaves, structure = name_leaves(updates, scope)
        rows = index_by_path(state.estimate)
        old = [find_row(rows, leaf.path) for leaf in leaves]
        changes = [
            _saturate(leaf.value.astype(estimate.dtype) - estimate)
            for leaf, estimate in zip(leaves, old, strict=True)
        ]
        passed, clip_state = clip.update(
            jax.tree.unflatten(structure, changes), state.clip_state, params, **extra
        )
        new = [
            # The clip may make NaN of a change that overflowed: then the estimate stays.
            _saturate(estimate + jnp.where(jnp.isfinite(part), part, 0).astype(estimate.dtype))
            for estimate, part in zip(old, jax.tree.leaves(passed), strict=True)
        ]
        rows |= {leaf.path: estimate for leaf, estimate in zip(leaves, new, strict=True)}
        kept = jax.tree.unflatten(jax.tree.structure(state.estimate), list(rows.values()))
        narrowed = [
            narrow(estimate, leaf.value.dtype) for leaf, estimate in zip(leaves, new, strict=True)
        ]
        return jax.tree.unflatten(structure, narrowed), ErrorFeedbackState(kept, clip_state)

    return skip_nonfinite(optax.GradientTransformationExtraArgs(init, update), axis_name=axis_name)


def _saturate(value: Array) -> Array:
    """Clamp a sum that overflowed to the largest number."""
    if jnp.iscomplexobj(value):
        return lax.complex(_saturate(value.real), _saturate(value.imag))
    largest = jnp.finfo(value.dtype).max
    return jnp.clip(value, -largest, largest)
