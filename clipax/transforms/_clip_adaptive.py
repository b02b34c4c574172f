"""Clips at thresholds that follow the norms seen, with the defaults of those who published them."""

from __future__ import annotations

import math

import optax

from clipax import _validate, norms, thresholds
from clipax._typing import AxisName, NonFinite, Scalar, ScalarOrSchedule
from clipax.scopes import Scope
from clipax.transforms._scale_by_norm import scale_by_norm

__all__ = ["clip_by_ema", "clip_by_median", "clip_by_quantile", "clip_by_zscore"]


def clip_by_zscore(
    z: Scalar = 2.5,
    *,
    decay: Scalar = 0.97,
    warmup: int = 25,
    cut_to: str = "adaptive",
    max_norm: Scalar | None = None,
    eps: Scalar = 1e-6,
    floor: Scalar = 0.02,
    restart: Scalar = 1e-2,
    scope: str | Scope = "global",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Clip spikes of the gradient norm, found by their z-score ("ZClip").

    `scale_by_norm(norms.clip(thresholds.zscore(z, ...)))`: for long trainings whose gradient norm
    wanders slowly, without a threshold to be tuned.

    Args:
      z: The largest z-score that passes; default 2.5.
      decay: Decay rate of the moving averages; default .97.
      warmup: From how many norms the statistics start; default 25.
      cut_to: The norm that a spike is cut to: `"adaptive"` (default), `"hard"` or `"mean"`.
      max_norm: A constant cap on every norm; None (default) for none.
      eps: Added to the standard deviation in the z-score; default 1e-6.
      floor: The least standard deviation that is believed, in units of the mean; default .02.
      restart: Two norms below this share of the mean start the statistics anew; default .01.
      scope: Which entries share a norm, as for `scale_by_norm`.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_zscore(2.0, warmup=1)
      >>> _, state = clip.update(jnp.array([4.0]), clip.init(jnp.zeros(1)))
      >>> print(clip.update(jnp.array([40.0]), state)[0].round(2))  # about the mean
      [4.]

    References:
      Kumar et al., "ZClip", arXiv 2504.02507; more at `thresholds.zscore`.
    """
    threshold = thresholds.zscore(
        z,
        decay=decay,
        warmup=warmup,
        cut_to=cut_to,
        max_norm=max_norm,
        eps=eps,
        floor=floor,
        restart=restart,
    )
    return scale_by_norm(
        norms.clip(threshold), scope=scope, nonfinite=nonfinite, axis_name=axis_name
    )


def clip_by_ema(
    ratio: Scalar = 1.05,
    *,
    decay: Scalar = 0.98,
    warmup: int = 100,
    absolute: Scalar = math.inf,
    floor: Scalar = 1e-3,
    scope: str | Scope = "leaf",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Clip each leaf at a multiple of the average of its own clipped norms ("AdaGC").

    `scale_by_norm(norms.clip(thresholds.ema(ratio, ...)), scope="leaf")`: for large trainings in
    which single tensors spike; thresholds shrink with the gradients.

    Args:
      ratio: The threshold in units of the average; default 1.05.
      decay: Decay rate of the average; default .98.
      warmup: For how many steps all leaves are clipped together; default 100.
      absolute: The largest norm of all leaves together in warm-up; default infinity (paper 1).
      floor: How far from the others a norm of the warm-up may be; default 1e-3.
      scope: Which entries share a norm, as for `scale_by_norm`.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_ema(1.5, warmup=0)
      >>> _, state = clip.update(jnp.array([0.5]), clip.init(jnp.zeros(1)))  # the average
      >>> print(clip.update(jnp.array([9.0]), state)[0])
      [0.75]

    References:
      Wang et al., "AdaGC", ICML 2026, arXiv 2502.11034, Algorithm 1; more at `thresholds.ema`.
    """
    threshold = thresholds.ema(ratio, decay=decay, warmup=warmup, absolute=absolute, floor=floor)
    return scale_by_norm(
        norms.clip(threshold), scope=scope, nonfinite=nonfinite, axis_name=axis_name
    )


def clip_by_median(
    scale: Scalar = 2.0,
    *,
    window: int = _validate.fixed_size(100),
    scope: str | Scope = "global",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Clip the gradient norm at a multiple of the median of the last norms.

    `scale_by_norm(norms.clip(thresholds.median(scale, window=window)))`: for spikes that are
    frequent or huge; `clip_by_quantile` clips a given share of the steps instead.

    Args:
      scale: The threshold in units of the median; default 2.
      window: How many norms are remembered; default 100.
      scope: Which entries share a norm, as for `scale_by_norm`.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_median(2.0)
      >>> _, state = clip.update(jnp.array([1.0]), clip.init(jnp.zeros(1)))
      >>> print(clip.update(jnp.array([50.0]), state)[0])  # the lower of the two is 1
      [2.]

    References:
      Yao et al., arXiv 2310.11230, the authors' code; more at `thresholds.median`.
    """
    threshold = thresholds.median(scale, window=window)
    return scale_by_norm(
        norms.clip(threshold), scope=scope, nonfinite=nonfinite, axis_name=axis_name
    )


def clip_by_quantile(
    quantile: ScalarOrSchedule,
    *,
    window: int = _validate.fixed_size(100),
    scope: str | Scope = "global",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Clip the gradient norm at a quantile of the last norms.

    `scale_by_norm(norms.clip(thresholds.quantile(quantile, window=window)))`: where no constant
    threshold suits the whole run; `clip_by_percentile` remembers the whole run.

    Args:
      quantile: Share of the steps that passes, in (0, 1), or an `optax.Schedule`.
      window: How many norms are remembered; default 100.
      scope: Which entries share a norm, as for `scale_by_norm`.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_quantile(0.5)
      >>> _, state = clip.update(jnp.array([4.0]), clip.init(jnp.zeros(1)))
      >>> print(clip.update(jnp.array([50.0]), state)[0])
      [4.]

    References:
      Merad, Gaiffas, arXiv 2309.17316; more at `thresholds.quantile`.
    """
    threshold = thresholds.quantile(quantile, window=window)
    return scale_by_norm(
        norms.clip(threshold), scope=scope, nonfinite=nonfinite, axis_name=axis_name
    )
