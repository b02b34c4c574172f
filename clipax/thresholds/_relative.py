"""A threshold relative to the norm of the parameters ("AGC").

A. Brock, S. De, S. L. Smith, K. Simonyan, "High-Performance Large-Scale Image Recognition Without
Normalization", arXiv 2102.06171.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from clipax import _validate
from clipax._typing import Array, Scalar
from clipax.thresholds._base import Context, Threshold, raise_to_normal

__all__ = ["relative"]


def relative(clipping: Scalar = 0.01, *, eps: Scalar = 1e-3) -> Threshold:
    """Make a threshold relative to the norm of the parameters ("AGC").

    A step of the learning rate can then change a block by at most a share of it. Prefer it for
    networks without normalisation, unit by unit (`clip_by_param_norm`).

        c = lambda max(||w||, epsilon),  w = the parameters of the block

    Args:
      clipping: The threshold `lambda` in units of the parameters' norm, which is measured as the
        gradient's; default .01 (paper, batches of 4,096; smaller ones bear larger values).
      eps: Least norm `epsilon`, so that blocks can leave zero; default 1e-3 (paper).

    Returns:
      A `Threshold` without memory that needs the `params` of `update` (else ValueError).

    Notes:
      Parameters of a NaN norm count as `eps`, those of an infinite one are not clipped.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> threshold = clipax.thresholds.relative(0.5)
      >>> context = clipax.thresholds.Context(jnp.array(0), param_norms=jnp.array(4.0))
      >>> print(threshold.update(jnp.array(1.0), threshold.init(()), context)[0])
      2.0

    References:
      Brock, De, Smith, Simonyan (NFNets), arXiv 2102.06171, equation 3.
    """
    _validate.positive("clipping", clipping)
    _validate.positive("eps", eps)

    def update(norms: Array, state: Any, context: Context) -> tuple[Array, Any]:
        if context.param_norms is None:
            raise ValueError("`context` must hold the norms of the parameters, got None.")
        least = _validate.to_float(eps, norms.dtype)
        # NaN fails the comparison, and counts as `eps`.
        sizes = jnp.where(context.param_norms > least, context.param_norms, least)
        return raise_to_normal(_validate.to_float(clipping, norms.dtype) * sizes), state

    return Threshold(lambda shape: (), update, needs_params=True, keeps_zeros_out=True)
