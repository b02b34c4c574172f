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
    """Give the whole gradient (almost) unit norm.

    `scale_by_norm(norms.normalize(eps))`. Prefer a clip where steps should vanish near a minimum.

    Args:
      eps: Keeps small gradients small, in units of their norm; non-negative. The paper's beta.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`. Norms below 1e-19 count as zero
      unless `eps` is larger; above 8e37 the update is zero.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> normalize, grads = clipax.normalize_by_global_norm(eps=1.0), jnp.array([0.0, 3.0])
      >>> print(normalize.update(grads, normalize.init(grads))[0])
      [0.   0.75]

    References:
      Zhang et al., ICLR 2020, arXiv 1905.11881; more at `norms.normalize`.
    """
    return scale_by_norm(norms.normalize(eps), nonfinite=nonfinite, axis_name=axis_name)
