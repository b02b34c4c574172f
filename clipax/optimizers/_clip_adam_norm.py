"""Clipped AdaGrad-Norm and Adam-Norm, with and without delay.

S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is Heavy-Tailed",
arXiv 2406.04443.
"""

from __future__ import annotations

import optax

from clipax import _validate, norms
from clipax._typing import AxisName, NonFinite, Scalar, ScalarOrSchedule
from clipax.engine import chain
from clipax.norms import NormRule
from clipax.thresholds import Threshold
from clipax.transforms import scale_by_norm

__all__ = ["clip_adagrad_norm", "clip_adam_norm", "clip_radagrad_norm"]


def clip_adagrad_norm(
    learning_rate: ScalarOrSchedule,
    threshold: ScalarOrSchedule | Threshold,
    *,
    b_init: Scalar = 1.0,
    b1: Scalar | None = None,
    delay: int | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Run AdaGrad-Norm on the clipped gradient (Clip-AdaGrad-Norm; delayed, Clip-AdaGradD-Norm).

    One outlier ruins the stepsize of AdaGrad-Norm for good; the clip makes a polynomial dependence
    on the failure probability logarithmic. Prefer it for heavy tails, smoothness unknown.

        ghat_t = min(1, c/||g_t||) g_t,  b_t^2 = b_{t-1}^2 + ||ghat_t||^2,
        m_t = b_1 m_{t-1} + (1 - b_1) ghat_t,  x_{t+1} = x_t - gamma_t m_t/b_{t-d}

    Args:
      learning_rate: Step size `gamma`, or its schedule; theory: distance to the solution.
      threshold: Largest norm `c`, as for `norms.clip` (infinity: AdaGrad-Norm).
      b_init: First scale `b_{-1}`, in place of an epsilon; at least 1e-37, default 1. In the theory
        it grows with the distance to the solution over the step size.
      b1: Decay rate `b_1`, as for `scale_by_norm`; None (default): no momentum (paper).
      delay: Steps `d` that the divisor lags behind, as for `clip_adagrad`.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, whose updates are added to the parameters.

    Notes:
      - No step is longer than `learning_rate * threshold / b_init`. Clip and divisor share a read.
        A delay keeps `delay` numbers, no gradient.
      - The authors' code also delays the gradient and adds an epsilon; this follows the paper.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.clip_adagrad_norm(1.0, threshold=4.0, b_init=3.0)
      >>> print(optimizer.update(jnp.array([100.0]), optimizer.init(jnp.zeros(1)))[0])  # 4 over 5
      [-0.8]

    References:
      Chezhegov et al., arXiv 2406.04443, Algorithm 1 and its delayed form.
    """
    return _clip_adam_norm(
        learning_rate, threshold, norms.adagrad_norm(b_init, delay), b1, nonfinite, axis_name
    )


def clip_adam_norm(
    learning_rate: ScalarOrSchedule,
    threshold: ScalarOrSchedule | Threshold,
    *,
    b_init: Scalar = 1.0,
    b1: Scalar | None = 0.9,
    b2: Scalar = 0.999,
    delay: int | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Run Adam-Norm on the clipped gradient (Clip-Adam-Norm; delayed, Clip-AdamD-Norm).

    One scalar divisor, half of Adam's memory: prefer it to `clip_adagrad_norm` for changing scales.

        ghat_t = min(1, c/||g_t||) g_t,  b_t^2 = b_2 b_{t-1}^2 + (1 - b_2) ||ghat_t||^2,
        m_t = b_1 m_{t-1} + (1 - b_1) ghat_t,  x_{t+1} = x_t - gamma_t m_t/b_{t-d}

    Args:
      learning_rate: `gamma`, as for `clip_adagrad_norm`.
      threshold: `c`, as for `clip_adagrad_norm`.
      b_init: `b_{-1}`, as for `clip_adagrad_norm`; the authors' code takes it squared.
      b1: Decay rate `b_1` of the momentum, in [0, 1); default .9, the paper's; or None.
      b2: Decay rate `b_2`, as for `clip_adam`; in theory `K/(K + 1)` for K + 1 steps.
      delay: `d`, as for `clip_adagrad_norm`; after many zeros a delayed step is long.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, as `clip_adagrad_norm`. Its scale stays positive and finite after any gradients.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.clip_adam_norm(1.0, threshold=4.0, b_init=3.0, b1=None, b2=0.5)
      >>> print(optimizer.update(jnp.array([99.0]), optimizer.init(jnp.zeros(1)))[0])  # sqrt(12.5)
      [-1.1313709]

    References:
      Chezhegov et al., arXiv 2406.04443, Algorithm 2 and its delayed form.
    """
    return _clip_adam_norm(
        learning_rate, threshold, norms.adam_norm(b_init, b2, delay), b1, nonfinite, axis_name
    )


def clip_radagrad_norm(
    learning_rate: ScalarOrSchedule,
    threshold: ScalarOrSchedule | Threshold,
    *,
    b_init: Scalar = 1.0,
    reweight: Scalar = 1.0,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Run delayed AdaGrad-Norm on the clipped gradient, squares weighted (Clip-RAdaGradD-Norm).

    Prefer `clip_adagrad_norm`, the same with `delay=1`, `learning_rate` and `b_init` over the root
    of `reweight`: a handle on the step size that the theory ties to the distance to the solution.

        ghat_t = min(1, c/||g_t||) g_t,  b_t^2 = b_{t-1}^2 + w ||ghat_t||^2,
        x_{t+1} = x_t - gamma_t ghat_t/b_{t-1}

    Args:
      learning_rate: `gamma`, as for `clip_adagrad_norm`.
      threshold: `c`, as for `clip_adagrad_norm`.
      b_init: `b_{-1}`, as for `clip_adagrad_norm`.
      reweight: Weight `w` of a squared norm, positive; default 1.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, as `clip_adagrad_norm`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.clip_radagrad_norm(1.0, threshold=4.0, b_init=2.0)
      >>> print(optimizer.update(jnp.array([100.0]), optimizer.init(jnp.zeros(1)))[0])  # 4 over 2
      [-2.]

    References:
      Chezhegov et al., arXiv 2406.04443, first version (at second hand here).
    """
    stepsize = norms.adagrad_norm(b_init, delay=1, reweight=reweight)
    return _clip_adam_norm(learning_rate, threshold, stepsize, None, nonfinite, axis_name)


def _clip_adam_norm(
    learning_rate: ScalarOrSchedule,
    threshold: ScalarOrSchedule | Threshold,
    stepsize: NormRule,
    b1: Scalar | None,
    nonfinite: NonFinite,
    axis_name: AxisName,
) -> optax.GradientTransformationExtraArgs:
    """Chain clip, momentum and stepsize, on one measurement, with the learning rate."""
    _validate.learning_rate(learning_rate)
    return chain(
        scale_by_norm(
            norms.clip(threshold), after=stepsize, b1=b1, nonfinite=nonfinite, axis_name=axis_name
        ),
        optax.scale_by_learning_rate(learning_rate),
    )
