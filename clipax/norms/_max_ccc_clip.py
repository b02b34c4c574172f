"""A clip where the comparison criterion is largest, which makes up for its bias.

N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of SGD with
Gradient Clipping in High-Dimensions", arXiv 2406.11733.
"""

from __future__ import annotations

from clipax import _validate
from clipax._typing import Array, Scalar
from clipax.norms._base import Decision, NormRule
from clipax.norms._factors import hard
from clipax.thresholds import Context, max_ccc
from clipax.thresholds._max_ccc import MaxCccState

__all__ = ["max_ccc_clip"]


def max_ccc_clip(
    *, window: int = _validate.fixed_size(500), min_fraction: Scalar = 0.1
) -> NormRule:
    """Clip where the comparison criterion is largest, and make up for the bias.

    Prefer it to `thresholds.max_ccc` alone in front of plain SGD, as its criterion supposes the
    scaling; an optimizer that divides by the gradient's size, as Adam does, cancels it.

        f(n) = 1/F(c) min(1, c/n),  F(c) = share of the norms n_i <= c

    Args:
      window: How many norms `n_i`, for the `c` of `thresholds.max_ccc`; default 500.
      min_fraction: Smallest share within the threshold, in (0, 1]; default .1: scales by up to 10.

    Returns:
      A `NormRule` with a `MaxCccState`. A block counts as clipped where `n > c`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.norms.max_ccc_clip(window=20)
      >>> context, state = clipax.thresholds.Context(jnp.array(0)), clip.init(())
      >>> for norm in [1.0] * 19 + [100.0]:
      ...     decision, state = clip.update(jnp.array(norm), state, context)
      >>> print(f"{100 * decision.factor:.4f}")  # clipped to 1, and 20/19 for 19 of 20 within
      1.0526

    References:
      Marshall et al., "To Clip or not to Clip", arXiv 2406.11733.
    """
    source = max_ccc(window=window, min_fraction=min_fraction)

    def update(norms: Array, state: MaxCccState, context: Context) -> tuple[Decision, MaxCccState]:
        threshold, state = source.update(norms, state, context)
        return Decision(hard(norms, threshold) * (1 / state.fraction), threshold), state

    return NormRule(source.init, update)
