"""Stepsizes adapted to the norms seen: AdaGrad-Norm and Adam-Norm."""

from __future__ import annotations

import optax

from clipax import norms
from clipax._typing import AxisName, NonFinite, Scalar
from clipax.transforms._scale_by_norm import scale_by_norm

__all__ = ["scale_by_adagrad_norm", "scale_by_adam_norm"]


def scale_by_adagrad_norm(
    *,
    b_init: Scalar,
    b1: Scalar | None = None,
    delay: int | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Divide by the root of the sum of all squared gradient norms (AdaGrad-Norm).

    `scale_by_norm(after=norms.adagrad_norm(b_init, delay), b1=b1)`: one scalar stepsize for the
    whole tree. It never recovers from an outlier: clip first, best with `clip_adagrad_norm`.

    Args:
      b_init: The scale before the first step, in units of the gradient norm, at least 1e-37.
      b1: Decay rate of the momentum, in [0, 1), as for `scale_by_norm`; None (default) for none.
      delay: How many steps the divisor lags, as for `norms.adagrad_norm`; None (default): no delay.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> adagrad, grads = clipax.scale_by_adagrad_norm(b_init=3.0), jnp.array([0.0, 4.0])
      >>> print(adagrad.update(grads, adagrad.init(grads))[0])  # divided by sqrt(9 + 16)
      [0.  0.8]

    References:
      Chezhegov et al., arXiv 2406.04443, Algorithm 1, no clip; more at `norms.adagrad_norm`.
    """
    return scale_by_norm(
        after=norms.adagrad_norm(b_init, delay), b1=b1, nonfinite=nonfinite, axis_name=axis_name
    )


def scale_by_adam_norm(
    *,
    b_init: Scalar,
    b1: Scalar | None = 0.9,
    b2: Scalar = 0.999,
    delay: int | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Divide momentum by the root of the averaged squared gradient norm (Adam-Norm).

    `scale_by_norm(after=norms.adam_norm(b_init, b2, delay), b1=b1)`: one divisor, half of Adam's
    memory. It forgets outliers over `1/(1 - b2)` steps: clip first, best with `clip_adam_norm`.

    Args:
      b_init: The scale before the first step, in units of the gradient norm, at least 1e-37.
      b1: Decay rate of the momentum, as for `scale_by_norm`; default .9 (paper); None for none.
      b2: Decay rate of the averaged square, in [0, 1); default .999 (bfloat16: `scale_by_norm`).
      delay: How many steps the divisor lags, as for `norms.adagrad_norm`; None (default): no delay.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> adam = clipax.scale_by_adam_norm(b_init=3.0, b1=None, b2=0.5)
      >>> print(adam.update(jnp.array([4.0]), adam.init(jnp.zeros(1)))[0])  # over sqrt((9 + 16)/2)
      [1.1313709]

    References:
      Chezhegov et al., arXiv 2406.04443, Algorithm 2, no clip; more at `norms.adam_norm`.
    """
    return scale_by_norm(
        after=norms.adam_norm(b_init, b2, delay), b1=b1, nonfinite=nonfinite, axis_name=axis_name
    )
