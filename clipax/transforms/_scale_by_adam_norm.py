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
    r"""Divides by the root of the sum of all squared gradient norms (AdaGrad-Norm).

    One scalar stepsize for the whole tree that needs no tuning to the smoothness. It never
    recovers from an outlier: clip first, best with `clip_adagrad_norm`.

    .. math::
        b_t^2 = b_{t-1}^2 + \|g_t\|^2, \quad m_t = b_1 m_{t-1} + (1 - b_1) g_t, \quad
        u_t = m_t / b_{t-d}

    with :math:`b_{-1}` the `b_init`, :math:`d` the `delay`; without `b1`, :math:`m_t = g_t`.

    Args:
      b_init: The scale before the first step, in units of the gradient norm; positive. It takes
        the place of an epsilon.
      b1: Decay rate of the momentum, in [0, 1), from zero and without bias correction; None
        (default) for none.
      delay: How many steps the divisor lags behind the gradient: 1 is the paper's delay, which
        makes the stepsize independent of the current gradient. The first `delay` steps divide by
        `b_init`. None (default) or 0: no delay.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives a zero update;
        `"propagate"`: it gives NaN. The scale and the momentum keep their values either way.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Guarantees:
      The scale never decreases and is never infinite: norms of 1e30 are added without overflow.
      A delay keeps `delay` numbers, no copy of a gradient.

    Edge cases:
      ================= ==========================================
      gradient          update
      ================= ==========================================
      zero              zero (momentum decays); `b` is kept
      NaN or infinity   zero; momentum, `b` and the delay are kept
      ================= ==========================================

    Sharding:
      As for `clip_by_global_norm`; the momentum is sharded like the parameters.

    Raises:
      TypeError: An argument is not a number, or `delay` not a concrete integer.
      ValueError: `b_init` below 1e-37, `b1` outside [0, 1), `delay` negative.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> adagrad = clipax.scale_by_adagrad_norm(b_init=3.0)
      >>> grads = jnp.array([0.0, 4.0])
      >>> print(adagrad.update(grads, adagrad.init(grads))[0])  # divided by sqrt(9 + 16)
      [0.  0.8]

    References:
      S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is
      Heavy-Tailed", arXiv 2406.04443, Algorithm 1 (without the clip).
      R. Ward, X. Wu, L. Bottou, "AdaGrad stepsizes: sharp convergence over nonconvex landscapes",
      ICML 2019, arXiv 1806.01811.

    Differences from the paper:
      The paper's delay is one step; this one is any number. For two and more the divisor is the
      recorded scale of that many steps ago.
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
    r"""Divides momentum by the root of the averaged squared gradient norm (Adam-Norm).

    Adam with one scalar divisor for the whole tree: half of Adam's memory. It forgets outliers
    over `1/(1 - b2)` steps; clip first, best with `clip_adam_norm`.

    .. math::
        b_t^2 = b_2 b_{t-1}^2 + (1 - b_2) \|g_t\|^2, \quad m_t = b_1 m_{t-1} + (1 - b_1) g_t,
        \quad u_t = m_t / b_{t-d}

    with :math:`b_{-1}` the `b_init`, :math:`d` the `delay`, and :math:`m` from zero.

    Args:
      b_init: The scale before the first step, in units of the gradient norm; positive. It takes
        the place of an epsilon.
      b1: Decay rate of the momentum, in [0, 1), default .9 as in the paper's runs; None for none.
      b2: Decay rate of the averaged squared norm, in [0, 1), default .999 as in the paper's runs.
        `optax.inject_hyperparams` rounds it to the parameters' dtype, in bfloat16 to 1: pass it
        `hyperparam_dtype=jnp.float32`.
      delay: How many steps the divisor lags behind the gradient: 1 is the paper's delay. The first
        `delay` steps divide by `b_init`. None (default) or 0: no delay.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives a zero update;
        `"propagate"`: it gives NaN. The scale and the momentum keep their values either way.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Guarantees:
      The scale is positive and finite after any gradients. A delay keeps `delay` numbers, no copy
      of a gradient.

    Edge cases:
      ================= ==========================================
      gradient          update
      ================= ==========================================
      zero              momentum over a decayed `b`
      NaN or infinity   zero; momentum, `b` and the delay are kept
      ================= ==========================================

    Sharding:
      As for `clip_by_global_norm`; the momentum is sharded like the parameters.

    Raises:
      TypeError: An argument is not a number, or `delay` not a concrete integer.
      ValueError: `b_init` below 1e-37, `b1` or `b2` outside [0, 1), `delay` negative.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> adam = clipax.scale_by_adam_norm(b_init=3.0, b1=None, b2=0.5)
      >>> grads = jnp.array([0.0, 4.0])
      >>> print(adam.update(grads, adam.init(grads))[0])  # divided by sqrt((9 + 16)/2)
      [0.        1.1313709]

    References:
      S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is
      Heavy-Tailed", arXiv 2406.04443, Algorithm 2 (without the clip).

    Differences from the paper:
      The delay may be any number of steps. A scale that decays below the smallest normal number
      stays there, so that its inverse is finite.
    """
    return scale_by_norm(
        after=norms.adam_norm(b_init, b2, delay), b1=b1, nonfinite=nonfinite, axis_name=axis_name
    )
