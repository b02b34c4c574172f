"""Clips at a percentile of all norms so far ("AutoClip").

P. Seetharaman, G. Wichern, B. Pardo, J. Le Roux, "AutoClip: Adaptive Gradient Clipping for Source
Separation Networks", arXiv 2007.14469.
"""

from __future__ import annotations

import optax

from clipax import _validate, norms
from clipax._typing import AxisName, NonFinite, Scalar
from clipax.scopes import Scope
from clipax.thresholds import percentile as percentile_of_norms
from clipax.transforms._scale_by_norm import scale_by_norm

__all__ = ["clip_by_percentile"]


def clip_by_percentile(
    percentile: Scalar = 10.0,
    *,
    window: int = _validate.fixed_size(1000),
    scope: str | Scope = "global",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Clip at a percentile of all norms so far ("AutoClip").

    `scale_by_norm(norms.clip(thresholds.percentile(percentile, window=window)))`: a first choice on
    a new problem; `clip_by_quantile` forgets old norms.

    Args:
      percentile: Which percentile, in (0, 100); default 10: about 90 % of all steps are clipped.
      window: Up to how many norms the percentile is exact; default 1000. Later it is within 4.5 %.
      scope: Which entries share a norm, as for `scale_by_norm`.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_percentile(50.0)
      >>> _, state = clip.update(jnp.array([3.0]), clip.init(jnp.zeros(1)))
      >>> print(clip.update(jnp.array([9.0]), state)[0])  # the first of two norms
      [3.]

    References:
      Seetharaman et al., arXiv 2007.14469; more at `thresholds.percentile`.
    """
    clip = norms.clip(percentile_of_norms(percentile, window=window))
    return scale_by_norm(clip, scope=scope, nonfinite=nonfinite, axis_name=axis_name)
