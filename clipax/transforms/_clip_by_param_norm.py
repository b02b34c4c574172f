"""Clips relative to the norms of the parameters."""

from __future__ import annotations

import optax

from clipax import norms, scopes, thresholds
from clipax._typing import AxisName, NonFinite, Scalar, Where
from clipax.scopes import Scope
from clipax.transforms._scale_by_norm import scale_by_norm

__all__ = ["clip_by_param_norm"]


def clip_by_param_norm(
    clipping: Scalar = 0.01,
    *,
    eps: Scalar = 1e-3,
    exclude: Where | None = None,
    stacked: Where | None = None,
    scope: str | Scope = "unit",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Clip each unit's gradient relative to the norm of its parameters ("AGC").

    `scale_by_norm(norms.clip(thresholds.relative(clipping, eps=eps)), scope="unit")`. Prefer it for
    networks without normalisation, at large batches and learning rates; leave the last layer out.

        u_i = min(1, lambda max(||w_i||, epsilon)/||g_i||) g_i

    Args:
      clipping: The threshold `lambda` over the norm of parameters, as for `thresholds.relative`.
      eps: The least norm `epsilon` of parameters, as for `thresholds.relative`.
      exclude: Which leaves to leave as they are: a glob pattern on the path, as `"head/*"` for the
        paper's last layer, a tuple of patterns, as `("head/*", "*/bias")`, a predicate, or None.
      stacked: Which leaves hold a layer for each entry of their first axis, as `nn.scan` and
        `nnx.scan` do, likewise; for others: `scope=scopes.stacked(axis, where=..., within="unit")`.
      scope: Which entries share a norm, as for `scale_by_norm`.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`; `update` needs the parameters.

    Raises:
      ValueError: A global `scope` beside `stacked`; no `params`; a stacked leaf without axes.

    Notes:
      - A unit is a kernel's weights of one output (stacked: of one layer), or a whole vector. Its
        update exceeds the threshold by at most `4 eps` of the leaves' dtype, relatively.
      - Norms of gradients and of parameters are all-reduced together. Under `jit`, where units are
        sharded, telemetry takes more: one for each set of mesh axes (CPUs: up to five).
      - `optax.adaptive_grad_clip` reduces the first of three axes alone; here all but the last are.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_param_norm(0.1, exclude="head")
      >>> params = {"head": jnp.ones(2), "w": jnp.array([[3.0, 0.0], [4.0, 1.0]])}
      >>> grads = {"head": jnp.ones(2), "w": jnp.array([[2.0, 0.0], [0.0, 0.05]])}
      >>> updates, _ = clip.update(grads, clip.init(params), params)
      >>> print(updates["head"], *updates["w"])  # columns of norm at most .5 and .1
      [1. 1.] [0.5 0. ] [0.   0.05]

    References:
      Brock, De, Smith, Simonyan, arXiv 2102.06171, equation 3; more at `thresholds.relative`.
    """
    if stacked is not None:
        stacked = scopes.check_where(stacked, "stacked")
        if scopes.is_global(scopes.resolve(scope)):
            raise ValueError("`scope` must not be 'global' beside `stacked`.")
        scope = scopes.stacked(0, where=stacked, within=scope)
    if exclude is not None:
        scope = scopes.exclude(scopes.check_where(exclude, "exclude"), scope)
    threshold = thresholds.relative(clipping, eps=eps)
    return scale_by_norm(
        norms.clip(threshold), scope=scope, nonfinite=nonfinite, axis_name=axis_name
    )
