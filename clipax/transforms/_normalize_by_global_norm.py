"""Normalisation: updates of (almost) fixed size."""

from __future__ import annotations

import optax

from clipax import norms
from clipax._typing import AxisName, NonFinite, Scalar
from clipax.transforms._scale_by_norm import scale_by_norm

__all__ = ["normalize_by_global_norm"]


def normalize_by_global_norm(
    eps: Scalar, *, nonfinite: NonFinite = "zero", axis_name: AxisName = None
) -> optax.GradientTransformationExtraArgs:
    r"""Gives the whole gradient (almost) unit norm.

    The length of the step no longer depends on the scale of the loss. Prefer a clip where small
    gradients near a minimum should give small steps.

    .. math:: u = \frac{g}{n + \epsilon}, \qquad n = \|g\|

    Args:
      eps: What keeps small gradients small, in units of the gradient norm; non-negative. The
        paper calls it beta; gradients well below it are scaled by `1/eps`.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives a zero update;
        `"propagate"`: it gives NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`; nothing counts as clipped.

    Guarantees:
      The norm of the update is at most `1 + 4 eps` of the leaves' dtype, and half of that at
      `n = eps`.

    Edge cases:
      ================= ========================
      gradient          update
      ================= ========================
      zero              zero, for `eps = 0` too
      `n` below 1e-19   as zero, unless `eps` is larger
      `n` above 8e37    zero: the factor is no normal float
      NaN or infinity   zero, counted
      ================= ========================

    Sharding:
      As for `clip_by_global_norm`.

    Raises:
      TypeError: `eps` is not a number.
      ValueError: `eps` is negative.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> normalize = clipax.normalize_by_global_norm(eps=1.0)
      >>> grads = jnp.array([0.0, 3.0])
      >>> print(normalize.update(grads, normalize.init(grads))[0])
      [0.   0.75]

    References:
      J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why gradient clipping accelerates training: A
      theoretical justification for adaptivity", ICLR 2020, arXiv 1905.11881.

    Differences from the paper:
      None for finite gradients; the paper's learning rate is a link of its own
      (`normalized_sgd`).
    """
    return scale_by_norm(norms.normalize(eps), nonfinite=nonfinite, axis_name=axis_name)
