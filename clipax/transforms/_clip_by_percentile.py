"""Clips at a percentile of all norms so far ("AutoClip").

P. Seetharaman, G. Wichern, B. Pardo, J. Le Roux, "AutoClip: Adaptive Gradient Clipping for Source
Separation Networks", arXiv 2007.14469.
"""

from __future__ import annotations

import optax

from clipax import norms
from clipax._typing import AxisName, NonFinite, Scalar
from clipax.scopes import Scope
from clipax.thresholds import percentile as percentile_of_norms
from clipax.transforms._scale_by_norm import scale_by_norm

__all__ = ["clip_by_percentile"]


def clip_by_percentile(
    percentile: Scalar = 10.0,
    *,
    window: int = 1000,
    scope: str | Scope = "global",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Clips at a percentile of all norms so far ("AutoClip").

    A threshold that needs no tuning to the scale of the gradients: with the default it is the norm
    that one step in ten stays below. Prefer it as a first choice on a new problem; the threshold is
    `clipax.thresholds.percentile`, which says more.

    .. math:: u_t = \min(1, c_t/n_t)\, g_t, \qquad c_t = n_{(r)}, \quad r = \lceil p\, t/100 \rceil

    with :math:`n_{(r)}` the r-th smallest of the norms of all :math:`t` steps so far, the current
    one included, and :math:`p` the `percentile`.

    Args:
      percentile: Which percentile, in (0, 100); default 10, the paper's: about 90 % of all steps
        are clipped.
      window: Up to how many norms the percentile is exact, at least 1; default 1000. Later it is
        within 4.5 %.
      scope: Which entries share a norm, and a percentile; `"global"` (default), `"leaf"`, `"unit"`
        or a scope.
      nonfinite: `"zero"` (default): a block with NaN or infinity gives a zero update;
        `"propagate"`: it gives NaN. Neither is remembered.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`, which `clipax.metrics` and
      `clipax.advise` read.

    Guarantees:
      Up to `window` steps the threshold is one of the norms seen, then within a factor `2^(1/16)`
      of it. A gradient at or below it is kept, bit for bit. Memory does not grow.

    Edge cases:
      ======================== ====================================
      gradient                 update
      ======================== ====================================
      the first                the gradient, bit for bit
      zero                     zero; counts as a norm
      NaN or infinity          zero, counted, not remembered
      ======================== ====================================

    Sharding:
      As for `clip_by_global_norm`; what is remembered is the same on every device.

    Raises:
      TypeError: `percentile` is no number, or `window` not a concrete integer.
      ValueError: `percentile` outside (0, 100), `window` below 1, or `scope` unknown.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_percentile(50.0)
      >>> state = clip.init(jnp.zeros(2))
      >>> for size in (1.0, 2.0, 0.5):
      ...     update, state = clip.update(size * jnp.array([3.0, 4.0]), state)
      ...     print(update, state.telemetry.threshold)
      [3. 4.] 5.0
      [3. 4.] 5.0
      [1.5 2. ] 5.0

    References:
      P. Seetharaman, G. Wichern, B. Pardo, J. Le Roux, "AutoClip: Adaptive Gradient Clipping for
      Source Separation Networks", MLSP 2020, arXiv 2007.14469.

    Differences from the paper:
      Those of `clipax.thresholds.percentile`: bounded memory, no interpolation between norms, and
      a guard against norms that are not finite.
    """
    clip = norms.clip(percentile_of_norms(percentile, window=window))
    return scale_by_norm(clip, scope=scope, nonfinite=nonfinite, axis_name=axis_name)
