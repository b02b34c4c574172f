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
    r"""Clips the root mean square of each leaf by itself (Adafactor's update clipping).

    One threshold fits leaves of all sizes, since it is on the size of their entries. Use it behind
    a transformation that brings entries to about 1, such as `optax.scale_by_adam`: it then bounds
    the updates themselves, where a clip in front bounds what they are made of.

    .. math:: u_i = \frac{g_i}{\max(1, \mathrm{rms}(g_i)/d)}, \qquad
        \mathrm{rms}(g) = \|g\| / \sqrt N

    for each leaf :math:`g_i`, with :math:`d` the `threshold` and :math:`N` the number of entries.

    Args:
      threshold: Largest root mean square: a positive number (infinity: never clip), an
        `optax.Schedule` of the step count, or a `Threshold` on root mean squares; default 1 as in
        the paper.
      scope: Which entries share a norm; `"leaf"` (default, the paper's), `"unit"`, `"global"` or a
        scope of `clipax.scopes`.
      nonfinite: `"zero"` (default): a block with NaN or infinity gives a zero update, the others
        are not touched; `"propagate"`: it gives NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`; its norms and thresholds are
      `rms` and `d` times the root of the number of entries.

    Guarantees:
      The root mean square of each leaf's update is at most `threshold * (1 + 4 eps)`. A leaf below
      the threshold keeps every normal number as it is. Sums do not overflow.

    Edge cases:
      ======================== ====================================
      gradient                 update
      ======================== ====================================
      all leaves within        the gradient, bit for bit
      a leaf of size 0         the same leaf
      NaN or infinity in one   zero for that leaf, counted for it
      ======================== ====================================

    Sharding:
      As for `clip_by_leaf_norm`; entries are counted over all shards.

    Raises:
      TypeError: `threshold` is no number, schedule or `Threshold`.
      ValueError: `threshold` is not positive, or `scope` unknown.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_block_rms(1.0)
      >>> grads = {"w": jnp.array([1.0, 7.0]), "b": jnp.array(0.5)}  # of rms 5 and 0.5
      >>> updates, _ = clip.update(grads, clip.init(grads))
      >>> print(updates["w"], updates["b"])
      [0.2 1.4] 0.5

    References:
      N. Shazeer, M. Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", ICML
      2018, arXiv 1804.04235, section 6.

    Differences from the paper:
      None for finite gradients: the update clipping alone, as `optax.clip_by_block_rms` has it.
    """
    return scale_by_norm(
        norms.clip(block_rms(threshold)), scope=scope, nonfinite=nonfinite, axis_name=axis_name
    )
