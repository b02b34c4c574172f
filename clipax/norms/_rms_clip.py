"""A clip at a multiple of the root mean square of the norms, which makes up for its bias.

N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of SGD with
Gradient Clipping in High-Dimensions", arXiv 2406.11733.
"""

from __future__ import annotations

import jax.numpy as jnp

from clipax import _validate
from clipax._typing import Array, Scalar
from clipax.norms._base import Decision, NormRule
from clipax.norms._factors import hard
from clipax.thresholds import Context, rms_of_norms
from clipax.thresholds._rms_of_norms import RmsOfNormsState, share_within

__all__ = ["rms_clip"]


def rms_clip(
    kappa: Scalar,
    *,
    decay: Scalar = 0.99,
    limit: Scalar | None = 10.0,
    compensate: str = "fraction",
) -> NormRule:
    """Clip at a multiple of the root mean square of the norms, and make up for the bias.

    Prefer it to `thresholds.rms_of_norms` alone in front of plain SGD; an optimizer that divides by
    the gradient's size, as Adam does, cancels the scaling.

        f(n) = g min(1, kappa R/n),
        g = max(1, 1/kappa) or g = min(max(1, 1/kappa), 1/F)

    for `compensate` `"bound"` and `"fraction"`, with `R` the root mean square and `F` the average
    share of the steps whose norm was at most `kappa R`.

    Args:
      kappa: The threshold `kappa` in units of the root mean square, positive and finite.
      decay: Decay rate of both averages, in [0, 1); default .99, about the last 100 steps.
      limit: The largest norm that is remembered as it is, as for `thresholds.rms_of_norms`.
      compensate: `"fraction"` (default) or `"bound"`, which needs no estimate of the share.

    Returns:
      A `NormRule` with an `RmsOfNormsState`. A block counts as clipped where `n > kappa R`.

    Notes:
      - `f(n) n` never exceeds `max(1, kappa)` times the root mean square.
      - The paper divides the rate by the exact share, or by `min(1, kappa)`; our share is bounded.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.norms.rms_clip(0.5, compensate="bound")
      >>> context = clipax.thresholds.Context(count=jnp.array(0))
      >>> print(clip.update(jnp.array(4.0), clip.init(()), context)[0].factor)  # to 2, then doubled
      1.0

    References:
      Marshall et al., "To Clip or not to Clip", arXiv 2406.11733.
    """
    _validate.one_of("compensate", compensate, ("bound", "fraction"))
    source = rms_of_norms(kappa, decay=decay, limit=limit)

    def compute_gain(state: RmsOfNormsState) -> Array:
        # The share within counts as at least this, so the gain is at most max(1, 1/kappa).
        least = jnp.minimum(1, jnp.asarray(kappa, state.weight.dtype))
        if compensate == "bound":
            return jnp.full_like(state.weight, 1 / least)
        return 1 / jnp.maximum(share_within(state), least)

    def update(
        norms: Array, state: RmsOfNormsState, context: Context
    ) -> tuple[Decision, RmsOfNormsState]:
        threshold, state = source.update(norms, state, context)
        return Decision(hard(norms, threshold) * compute_gain(state), threshold), state

    return NormRule(source.init, update)
