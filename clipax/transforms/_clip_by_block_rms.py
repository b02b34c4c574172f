"""Update clipping: the root mean square of each block's entries is cut at a threshold."""

from __future__ import annotations

import optax

from clipax import norms
from clipax._typing import AxisName, NonFinite, ScalarOrSchedule
from clipax.scopes import Scope
from clipax.thresholds import Threshold, block_rms
from clipax.transforms._scale_by_norm import scale_by_norm

__all__ = ["clip_by_block_rms"]


def clip_by_block_rms(
    threshold: ScalarOrSchedule | Threshold = 1.0,
    *,
    scope: str | Scope = "leaf",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Clip the root mean square of each leaf by itself (Adafactor's update clipping).

    `scale_by_norm(norms.clip(thresholds.block_rms(threshold)), scope="leaf")`: bounds updates
    behind what brings entries to about 1, such as `optax.scale_by_adam`.

    Args:
      threshold: Largest root mean square, as for `thresholds.block_rms`; default 1 (paper).
      scope: Which entries share a norm, as for `scale_by_norm`.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      A `GradientTransformationExtraArgs`; telemetry has norms, of all shards: `sqrt(N)` the rms.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip, grads = clipax.clip_by_block_rms(1.0), jnp.array([1.0, 7.0])  # of rms 5
      >>> print(clip.update(grads, clip.init(grads))[0])
      [0.2 1.4]

    References:
      Shazeer, Stern, ICML 2018, arXiv 1804.04235, section 6; more at `thresholds.block_rms`.
    """
    return scale_by_norm(
        norms.clip(block_rms(threshold)), scope=scope, nonfinite=nonfinite, axis_name=axis_name
    )
