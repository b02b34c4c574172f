"""Normalised momentum, with a clip in front of it or without.

A. Cutkosky, H. Mehta, "Momentum Improves Normalized SGD", arXiv 2002.03305, and "High-probability
Bounds for Non-Convex Stochastic Optimization with Heavy Tails", arXiv 2106.14343.
"""

from __future__ import annotations

import optax

from clipax import _validate, norms
from clipax._typing import AxisName, NonFinite, Scalar, ScalarOrSchedule
from clipax.norms import NormRule
from clipax.optimizers._momentum_norm import scale_by_momentum_norm
from clipax.thresholds import Threshold

__all__ = ["clip_normalized_momentum", "normalized_momentum"]


def clip_normalized_momentum(
    learning_rate: ScalarOrSchedule,
    threshold: ScalarOrSchedule | Threshold,
    *,
    decay: Scalar = 0.9,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Clips the gradient, averages it, and moves by a fixed length along the average.

    The clip tames outliers before they enter the momentum, the normalisation makes the step length
    independent of the gradient. It converges with high probability under noise without a variance;
    `clipax.theory` has the theorem's parameters.

    .. math::
        m_t = b\, m_{t-1} + (1 - b) \min(1, \tau/\|g_t\|)\, g_t, \qquad
        x_{t+1} = x_t - \eta_t\, m_t / \|m_t\|

    with :math:`\eta` the `learning_rate`, :math:`\tau` the `threshold` and :math:`b` the `decay`.

    Args:
      learning_rate: Length of a step in units of the parameters; non-negative, or an
        `optax.Schedule`.
      threshold: Largest norm of a gradient that enters the momentum: a positive number (infinity:
        never clip), an `optax.Schedule` or a `Threshold`.
      decay: Decay rate of the momentum, in [0, 1), from zero and without bias correction (it would
        cancel); default .9. The
        momentum is kept in float32 or better; `optax.inject_hyperparams` rounds the rate to the
        parameters' dtype: in bfloat16 pass it `hyperparam_dtype=jnp.float32`.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives no step and is
        forgotten; `"propagate"`: its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added.

    Guarantees:
      Every step has the length `learning_rate`, up to rounding (of entries below 1e-18 the squares
      vanish: a momentum made of such is read as shorter). `clipax.metrics` reports two
      blocks, `gradient` and `averaged`.

    Edge cases:
      ================= ==========================================
      gradient          step
      ================= ==========================================
      zero              along the momentum; none if that is below 1e-19
      NaN or infinity   none; the momentum is kept
      ================= ==========================================

    Sharding:
      As for `clip_sgd`. Under `jit` the momentum is measured after the gradient; inside `shard_map`
      both are, in one collective, and the momentum again where gradient and momentum nearly cancel.

    Raises:
      TypeError: An argument is not a number, schedule or `Threshold`.
      ValueError: `learning_rate` negative, `threshold` not positive, `decay` outside [0, 1).

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.clip_normalized_momentum(0.5, threshold=1.0)
      >>> params = jnp.array([30.0, 40.0])
      >>> update, _ = optimizer.update(params, optimizer.init(params), params)
      >>> [round(float(u), 4) for u in update]
      [-0.3, -0.4]

    References:
      A. Cutkosky, H. Mehta, "High-probability Bounds for Non-Convex Stochastic Optimization with
      Heavy Tails", NeurIPS 2021, arXiv 2106.14343, Algorithm 1.

    Differences from the paper:
      None; the restarts and the second-order variant of the paper are not here.
    """
    return _normalized(learning_rate, norms.clip(threshold), decay, nonfinite, axis_name)


def normalized_momentum(
    learning_rate: ScalarOrSchedule,
    *,
    decay: Scalar = 0.9,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Moves by a fixed length along the averaged gradient.

    Momentum removes the need for large batches that normalised descent has. Prefer
    `clip_normalized_momentum` where single gradients can be very large.

    .. math::
        m_t = b\, m_{t-1} + (1 - b)\, g_t, \qquad x_{t+1} = x_t - \eta_t\, m_t / \|m_t\|

    with :math:`\eta` the `learning_rate` and :math:`b` the `decay`.

    Args:
      learning_rate: Length of a step in units of the parameters; non-negative, or an
        `optax.Schedule`.
      decay: Decay rate of the momentum, in [0, 1), from zero and without bias correction (it would
        cancel); default .9. The
        momentum is kept in float32 or better; `optax.inject_hyperparams` rounds the rate to the
        parameters' dtype: in bfloat16 pass it `hyperparam_dtype=jnp.float32`.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives no step and is
        forgotten; `"propagate"`: its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added.

    Guarantees:
      Every step has the length `learning_rate`, up to rounding (of entries below 1e-18 the squares
      vanish: a momentum made of such is read as shorter).

    Edge cases:
      ================= ==========================================
      gradient          step
      ================= ==========================================
      zero              along the momentum; none if that is below 1e-19
      NaN or infinity   none; the momentum is kept
      ================= ==========================================

    Sharding:
      As for `clip_sgd`, a collective for each of the two norms; inside `shard_map` they share one.

    Raises:
      TypeError: An argument is not a number.
      ValueError: `learning_rate` negative, `decay` outside [0, 1).

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.normalized_momentum(0.5)
      >>> params = jnp.array([3.0, 4.0])
      >>> update, _ = optimizer.update(params, optimizer.init(params), params)
      >>> [round(float(u), 4) for u in update]
      [-0.3, -0.4]

    References:
      A. Cutkosky, H. Mehta, "Momentum Improves Normalized SGD", ICML 2020, arXiv 2002.03305,
      Algorithm 1.

    Differences from the paper:
      None; its second algorithm, with implicit gradient transport, is not here.
    """
    return _normalized(learning_rate, None, decay, nonfinite, axis_name)


def _normalized(
    learning_rate: ScalarOrSchedule,
    before: NormRule | None,
    decay: Scalar,
    nonfinite: NonFinite,
    axis_name: AxisName,
) -> optax.GradientTransformationExtraArgs:
    _validate.learning_rate(learning_rate)
    return optax.chain(
        scale_by_momentum_norm(
            norms.normalize(eps=0.0),
            before=before,
            decay=decay,
            nonfinite=nonfinite,
            axis_name=axis_name,
        ),
        optax.scale_by_learning_rate(learning_rate),
    )
