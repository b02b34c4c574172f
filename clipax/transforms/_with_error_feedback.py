"""Error feedback: the part of a gradient that a clip cuts off is not lost but comes later.

S. Khirirat, E. Gorbunov, S. Horvath, R. Islamov, F. Karray, P. Richtarik, "Clip21: Error
Feedback for Gradient Clipping", arXiv 2305.18929.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from clipax import _platforms, _validate, scopes
from clipax._export import exportable
from clipax._typing import Array, AxisName, Params, Updates
from clipax.engine import make_transformation
from clipax.engine._entries import guard, hide, wide_zeros_like
from clipax.engine._skip import mask_derivatives, select_step, strip_weak_types
from clipax.measure import (
    Leaf,
    all_finite,
    assume_computed,
    find_row,
    index_by_path,
    name_leaves,
    narrow,
)
from clipax.transforms._skip_nonfinite import SkipNonfiniteState, begin, proceed

__all__ = ["ErrorFeedbackState", "with_error_feedback"]


@exportable
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
    _validate.transformation("inner", inner)
    clip = optax.with_extra_args_support(inner)
    scope = scopes.resolve("leaf")

    def init(params: Params) -> SkipNonfiniteState:
        estimate = jax.tree.map(wide_zeros_like, params)
        return begin(ErrorFeedbackState(estimate, strip_weak_types(clip.init(params))))

    def update(
        updates: Updates, state: SkipNonfiniteState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, SkipNonfiniteState]:
        # Selected entry by entry, not skipped as a whole: a branch of `lax.cond` writes the updates
        # out on a CPU too (`benchmarks/NOTES.md`).
        leaves, structure = name_leaves(updates, scope)
        finite = all_finite(leaves, axis_name=axis_name)
        estimate, clip_state = state.inner
        rows = index_by_path(estimate)
        old = [find_row(rows, leaf.path) for leaf in leaves]
        changes = [
            _saturate(value.astype(before.dtype) - before)
            for value, before in zip(_hide(leaves), old, strict=True)
        ]
        operands = jax.tree.unflatten(structure, changes), clip_state, params
        with assume_computed():
            passed, clipped = clip.update(*mask_derivatives(finite, operands), **extra)
        for leaf, before, part in zip(leaves, old, jax.tree.leaves(passed), strict=True):
            # The clip may make NaN of a change that overflowed: then the estimate stays.
            counted = jnp.where(jnp.isfinite(part), part, 0).astype(before.dtype)
            rows[leaf.path] = jnp.where(finite, _saturate(before + counted), before)
        # Made from what is remembered: from the sum before the selection XLA for CPU would compute
        # that sum twice, and copy the old estimate.
        given = [narrow(guard(finite, rows[leaf.path], 0.0), leaf.value.dtype) for leaf in leaves]
        kept = jax.tree.unflatten(jax.tree.structure(estimate), list(rows.values()))
        inner_state = ErrorFeedbackState(kept, select_step(finite, clipped, clip_state))
        return jax.tree.unflatten(structure, given), proceed(state, finite, inner_state)

    return make_transformation(init, update, SkipNonfiniteState)


def _hide(leaves: Sequence[Leaf]) -> Sequence[Array]:
    """Put the leaves behind barriers on a CPU, where else the check and the change share a copy.

    XLA for CPU writes out the float32 copy of a bfloat16 gradient that both read. For GPU and TPU
    it takes the check and the norm of the change from one read, if there is no barrier.
    """
    return _platforms.choose([leaf.value for leaf in leaves], cpu=hide, gpu=list, tpu=list)


def _saturate(value: Array) -> Array:
    """Clamp a sum that overflowed to the largest number."""
    if jnp.iscomplexobj(value):
        return lax.complex(_saturate(value.real), _saturate(value.imag))
    largest = jnp.finfo(value.dtype).max
    return jnp.clip(value, -largest, largest)
