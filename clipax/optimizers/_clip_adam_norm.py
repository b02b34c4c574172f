"""Clipped AdaGrad-Norm and Adam-Norm, with and without delay.

S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is Heavy-Tailed",
arXiv 2406.04443.
"""

from __future__ import annotations

import optax

from clipax import _validate, norms
from clipax._typing import AxisName, NonFinite, Scalar, ScalarOrSchedule
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
    r"""AdaGrad-Norm on the clipped gradient (Clip-AdaGrad-Norm; with a delay Clip-AdaGradD-Norm).

    One outlier ruins the stepsize of AdaGrad-Norm for good; the clip bounds what it can do, which
    turns a polynomial dependence on the failure probability into a logarithmic one. Prefer it where
    the smoothness is unknown and the noise heavy-tailed.

    .. math::
        \hat g_t = \min(1, c/\|g_t\|)\, g_t, \quad b_t^2 = b_{t-1}^2 + \|\hat g_t\|^2, \quad
        m_t = b_1 m_{t-1} + (1 - b_1) \hat g_t, \quad x_{t+1} = x_t - \gamma_t m_t / b_{t-d}

    with :math:`\gamma` the `learning_rate`, :math:`c` the `threshold`, :math:`b_{-1}` the `b_init`
    and :math:`d` the `delay`. One clipped gradient feeds both :math:`m` and :math:`b`.

    Args:
      learning_rate: Numerator of the step size, in units of the parameters; non-negative, or an
        `optax.Schedule`. The theory takes the distance to the solution.
      threshold: Largest norm of the clipped gradient: a positive number (infinity: AdaGrad-Norm),
        an `optax.Schedule` or a `Threshold`.
      b_init: The scale before the first step, positive, default 1; in place of an epsilon. The
        theory lets it grow with the distance to the solution over the wanted step size.
      b1: Decay rate of the momentum, in [0, 1), from zero and without bias correction; None
        (default) for none, as in the paper's AdaGrad-Norm.
      delay: Steps that the divisor lags behind the gradient; 1 is the paper's delayed method. The
        first `delay` steps divide by `b_init`. None (default) or 0: no delay.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives no step and is
        forgotten; `"propagate"`: its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added.

    Guarantees:
      One read of the gradient for clip and divisor together. A delay keeps `delay` numbers, no copy
      of a gradient. No step is longer than `learning_rate * threshold / b_init`.

    Edge cases:
      ================= ==========================================
      gradient          step
      ================= ==========================================
      zero              none without momentum; `b` is kept
      NaN or infinity   none; momentum, `b` and the delay are kept
      ================= ==========================================

    Sharding:
      As for `clip_sgd`; the momentum is sharded like the parameters.

    Raises:
      TypeError: An argument is of the wrong type; `delay` must be a concrete integer
        (`static_args` of `optax.inject_hyperparams`).
      ValueError: `learning_rate` negative, `threshold` not positive, `b_init` below 1e-37, `b1`
        outside [0, 1), `delay` negative.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.clip_adagrad_norm(1.0, threshold=4.0, b_init=3.0)
      >>> params = jnp.array([0.0, 100.0])
      >>> update, _ = optimizer.update(params, optimizer.init(params), params)
      >>> print(update)  # clipped to 4, then divided by sqrt(9 + 16)
      [-0.  -0.8]

    References:
      S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is
      Heavy-Tailed", arXiv 2406.04443, Algorithm 1 and its delayed form.

    Differences from the paper:
      The delay may be any number of steps (for two and more the divisor is the recorded scale of
      that many steps ago), and momentum may be added. The code that the authors published also
      steps with the previous gradient when delayed and adds an epsilon; this follows the paper.
    """
    return _clipped(
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
    r"""Adam-Norm on the clipped gradient (Clip-Adam-Norm; with a delay Clip-AdamD-Norm).

    Adam with one scalar divisor and half of Adam's memory; the clip bounds what one outlier does to
    momentum and divisor. Prefer it to `clip_adagrad_norm` where the scale of gradients changes.

    .. math::
        \hat g_t = \min(1, c/\|g_t\|)\, g_t, \quad
        b_t^2 = b_2 b_{t-1}^2 + (1 - b_2) \|\hat g_t\|^2, \quad
        m_t = b_1 m_{t-1} + (1 - b_1) \hat g_t, \quad x_{t+1} = x_t - \gamma_t m_t / b_{t-d}

    with :math:`\gamma` the `learning_rate`, :math:`c` the `threshold`, :math:`b_{-1}` the `b_init`
    and :math:`d` the `delay`. One clipped gradient feeds both :math:`m` and :math:`b`.

    Args:
      learning_rate: Numerator of the step size, in units of the parameters; non-negative, or an
        `optax.Schedule`.
      threshold: Largest norm of the clipped gradient: a positive number (infinity: Adam-Norm), an
        `optax.Schedule` or a `Threshold`.
      b_init: The scale before the first step, positive, default 1; in place of an epsilon.
      b1: Decay rate of the momentum, in [0, 1), default .9 as in the paper's runs; None for none.
      b2: Decay rate of the averaged squared norm, in [0, 1), default .999 as in the paper's runs.
        The theory takes `K/(K + 1)` for K + 1 steps. `optax.inject_hyperparams` rounds it to the
        parameters' dtype, in bfloat16 to 1: pass it `hyperparam_dtype=jnp.float32`.
      delay: Steps that the divisor lags behind the gradient; 1 is the paper's delayed method. The
        first `delay` steps divide by `b_init`. None (default) or 0: no delay.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives no step and is
        forgotten; `"propagate"`: its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added.

    Guarantees:
      One read of the gradient for clip and divisor together. A delay keeps `delay` numbers, no copy
      of a gradient. The scale is positive and finite after any gradients.

    Edge cases:
      ================= ==========================================
      gradient          step
      ================= ==========================================
      zero              of the momentum, over a decayed `b`; after many of them a delayed
                        step divides by very little
      NaN or infinity   none; momentum, `b` and the delay are kept
      ================= ==========================================

    Sharding:
      As for `clip_sgd`; the momentum is sharded like the parameters.

    Raises:
      TypeError: An argument is of the wrong type; `delay` must be a concrete integer
        (`static_args` of `optax.inject_hyperparams`).
      ValueError: `learning_rate` negative, `threshold` not positive, `b_init` below 1e-37, `b1` or
        `b2` outside [0, 1), `delay` negative.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.clip_adam_norm(1.0, threshold=4.0, b_init=3.0, b1=None, b2=0.5)
      >>> params = jnp.array([100.0])
      >>> update, _ = optimizer.update(params, optimizer.init(params), params)
      >>> print(update)  # clipped to 4, then divided by sqrt((9 + 16)/2)
      [-1.1313709]

    References:
      S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is
      Heavy-Tailed", arXiv 2406.04443, Algorithm 2 and its delayed form.

    Differences from the paper:
      The delay may be any number of steps. A scale that decays below the smallest normal number
      stays there. The code that the authors published also steps with the previous gradient when
      delayed, adds an epsilon and takes `b_init` squared; this follows the paper.
    """
    return _clipped(
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
    r"""Delayed AdaGrad-Norm on the clipped gradient, with weighted squares (Clip-RAdaGradD-Norm).

    The method of the paper's first version. The weight is a second handle on how fast the step size
    falls; the theory of that version ties it to the distance to the solution.

    .. math::
        \hat g_t = \min(1, c/\|g_t\|)\, g_t, \quad b_t^2 = b_{t-1}^2 + w \|\hat g_t\|^2, \quad
        x_{t+1} = x_t - \gamma_t \hat g_t / b_{t-1}

    with :math:`\gamma` the `learning_rate`, :math:`c` the `threshold`, :math:`b_{-1}` the `b_init`
    and :math:`w` the `reweight`.

    Args:
      learning_rate: Numerator of the step size, in units of the parameters; non-negative, or an
        `optax.Schedule`.
      threshold: Largest norm of the clipped gradient: a positive number (infinity: never clip), an
        `optax.Schedule` or a `Threshold`.
      b_init: The scale before the first step, positive, default 1; in place of an epsilon.
      reweight: Weight of a squared norm, positive; default 1, `clip_adagrad_norm` with a delay of
        one step.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives no step and is
        forgotten; `"propagate"`: its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added.

    Guarantees:
      One read of the gradient, two numbers in memory. Equal to `clip_adagrad_norm` with `delay=1`,
      learning rate and `b_init` over the root of `reweight`.

    Edge cases:
      ================= ===================
      gradient          step
      ================= ===================
      zero              none; `b` is kept
      NaN or infinity   none; `b` is kept
      ================= ===================

    Sharding:
      As for `clip_sgd`.

    Raises:
      TypeError: An argument is of the wrong type.
      ValueError: `learning_rate` negative, `threshold` or `reweight` not positive, `b_init` below
        1e-37.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.clip_radagrad_norm(1.0, threshold=4.0, b_init=3.0, reweight=1.0)
      >>> params, state = jnp.array([100.0]), optimizer.init(jnp.zeros(1))
      >>> for _ in range(2):
      ...     update, state = optimizer.update(params, state)
      ...     print(update)  # the clipped 4 over 3, then over 5
      [-1.3333334]
      [-0.8]

    References:
      S. Chezhegov et al., arXiv 2406.04443, first version, Clip-RAdaGradD.

    Differences from the paper:
      None known; the first version is described at second hand here.
    """
    stepsize = norms.adagrad_norm(b_init, delay=1, reweight=reweight)
    return _clipped(learning_rate, threshold, stepsize, None, nonfinite, axis_name)


def _clipped(
    learning_rate: ScalarOrSchedule,
    threshold: ScalarOrSchedule | Threshold,
    stepsize: NormRule,
    b1: Scalar | None,
    nonfinite: NonFinite,
    axis_name: AxisName,
) -> optax.GradientTransformationExtraArgs:
    """Clip, momentum and stepsize from one measurement, then the learning rate."""
    _validate.learning_rate(learning_rate)
    return optax.chain(
        scale_by_norm(
            norms.clip(threshold), after=stepsize, b1=b1, nonfinite=nonfinite, axis_name=axis_name
        ),
        optax.scale_by_learning_rate(learning_rate),
    )
