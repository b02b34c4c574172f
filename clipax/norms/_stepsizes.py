"""Stepsizes that adapt to the norms seen: the divisors of AdaGrad-Norm and Adam-Norm."""

from __future__ import annotations

import jax.numpy as jnp

from clipax._statistics._moving import Scale, adagrad, adam
from clipax._typing import Array, Scalar
from clipax.norms._base import Decision, NormRule
from clipax.norms._delay import delay_factors
from clipax.thresholds import Context

__all__ = ["adagrad_norm", "adam_norm"]


def adagrad_norm(b_init: Scalar, delay: int | None = None, *, reweight: Scalar = 1.0) -> NormRule:
    """Divide by the root of the sum of all squared norms (AdaGrad-Norm).

    One stepsize a block that needs no tuning to the smoothness. It never recovers from an outlier:
    clip first, best with `clip_adagrad_norm`.

        f_t = 1/b_{t-d},  b_t^2 = b_{t-1}^2 + w n_t^2

    Args:
      b_init: First scale `b_{-1}`, in place of an epsilon; at least 1e-37.
      delay: Steps `d` that the factor lags behind, an integer; None (default) or 0: no delay.
      reweight: Weight `w` of squares, positive; default 1 (others: paper's first version).

    Returns:
      A `NormRule`. Nothing counts as clipped.

    Notes:
      - The scale never decreases and stays finite. Norms of 1e30 do not overflow: the root is kept.
      - The paper's delay is 1, for a stepsize independent of the current gradient; any other keeps
        as many numbers a block. The first steps use `1/b_init`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> divide = clipax.norms.adagrad_norm(b_init=3.0)
      >>> context = clipax.thresholds.Context(count=jnp.array(0))
      >>> print(divide.update(jnp.array(4.0), divide.init(()), context)[0].factor)
      0.2

    References:
      Chezhegov et al., arXiv 2406.04443, Algorithm 1; Ward et al., ICML 2019, arXiv 1806.01811.
    """
    return _divide_by(adagrad(b_init, reweight), delay)


def adam_norm(b_init: Scalar, b2: Scalar, delay: int | None = None) -> NormRule:
    """Divide by the root of the averaged squared norm (Adam-Norm).

    Adam's divisor with one number a block. It forgets outliers over `1/(1 - b2)` steps: clip first,
    best with `clip_adam_norm`.

        f_t = 1/b_{t-d},  b_t^2 = b_2 b_{t-1}^2 + (1 - b_2) n_t^2

    Args:
      b_init: First scale `b_{-1}`, in place of an epsilon; at least 1e-37.
      b2: Decay rate `b_2` of the average, in [0, 1); there is no bias correction.
      delay: Steps `d` that the factor lags behind, as for `adagrad_norm`.

    Returns:
      A `NormRule`. Nothing counts as clipped.

    Notes:
      Norms of 1e30 do not overflow: the root is kept, and at least the smallest normal number.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> divide = clipax.norms.adam_norm(b_init=3.0, b2=0.5)
      >>> context = clipax.thresholds.Context(count=jnp.array(0))
      >>> decision, b = divide.update(jnp.array(4.0), divide.init(()), context)
      >>> print(f"{b:.4f}")  # the root of (9 + 16)/2
      3.5355

    References:
      Chezhegov et al., arXiv 2406.04443, Algorithm 2.
    """
    return _divide_by(adam(b_init, b2), delay)


def _divide_by(scale: Scale, delay: int | None) -> NormRule:
    """Make the rule that divides by a scale of the norms, delayed if wanted."""

    def init(shape: tuple[int, ...]) -> Array:
        return jnp.full(shape, scale.b_init, float)

    def update(norms: Array, b: Array, context: Context) -> tuple[Decision, Array]:
        b = scale.accumulate(b, norms, context.count)
        return Decision(1 / b, jnp.full_like(norms, jnp.inf)), b

    return delay_factors(NormRule(init, update), delay, 1 / scale.b_init, counts_zeros=True)
