"""Normalised momentum, of the gradient or of the clipped gradient.

A. Cutkosky, H. Mehta, "Momentum Improves Normalized SGD", arXiv 2002.03305, and
"High-probability Bounds for Non-Convex Stochastic Optimization with Heavy Tails", arXiv
2106.14343.
"""

from __future__ import annotations

import optax

from clipax import _validate, norms
from clipax._typing import AxisName, NonFinite, Scalar, ScalarOrSchedule
from clipax.engine import chain
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
    """Move by a fixed length along the average of clipped gradients.

    The clip tames outliers before they enter the momentum. Prefer it under noise without a
    variance: it converges with high probability (parameters of the theorem: `clipax.theory`).

        m_t = b m_{t-1} + (1 - b) min(1, tau/||g_t||) g_t,
        x_{t+1} = x_t - eta_t m_t/||m_t||

    Args:
      learning_rate: Length `eta` of a step, non-negative, or an `optax.Schedule`.
      threshold: Largest norm `tau` of a gradient in the momentum, as for `norms.clip`.
      decay: Decay rate `b`, from zero, in [0, 1); default .9 (bfloat16: `scale_by_norm`).
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, whose updates are added to the parameters: of length `eta`, to rounding.

    Notes:
      - Squares of entries below 1e-18 vanish: momentum of them counts as shorter, below 1e-19 as 0.
      - Telemetry is of two norms, the gradient's and the momentum's, a collective each at most.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.clip_normalized_momentum(0.5, threshold=1.0)
      >>> print(optimizer.update(jnp.array([30.0]), optimizer.init(jnp.zeros(1)))[0].round(4))
      [-0.5]

    References:
      Cutkosky, Mehta, arXiv 2106.14343, Algorithm 1 (no restarts, no second order).
    """
    return _normalize_momentum(learning_rate, norms.clip(threshold), decay, nonfinite, axis_name)


def normalized_momentum(
    learning_rate: ScalarOrSchedule,
    *,
    decay: Scalar = 0.9,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Move by a fixed length along the averaged gradient.

    Momentum removes the need for large batches that normalised descent has. Prefer
    `clip_normalized_momentum` where single gradients can be very large.

        m_t = b m_{t-1} + (1 - b) g_t,  x_{t+1} = x_t - eta_t m_t/||m_t||

    Args:
      learning_rate: `eta`, as for `clip_normalized_momentum`.
      decay: `b`, as for `clip_normalized_momentum`.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, as `clip_normalized_momentum`, with the notes there.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.normalized_momentum(0.5)
      >>> print(optimizer.update(jnp.array([3.0]), optimizer.init(jnp.zeros(1)))[0].round(4))
      [-0.5]

    References:
      Cutkosky, Mehta, ICML 2020, arXiv 2002.03305, Algorithm 1 (no implicit gradient transport).
    """
    return _normalize_momentum(learning_rate, None, decay, nonfinite, axis_name)


def _normalize_momentum(
    learning_rate: ScalarOrSchedule,
    before: NormRule | None,
    decay: Scalar,
    nonfinite: NonFinite,
    axis_name: AxisName,
) -> optax.GradientTransformationExtraArgs:
    """Chain normalised momentum, of clipped gradients with `before`, with the learning rate."""
    _validate.learning_rate(learning_rate)
    return chain(
        scale_by_momentum_norm(
            norms.normalize(eps=0.0),
            before=before,
            decay=decay,
            nonfinite=nonfinite,
            axis_name=axis_name,
        ),
        optax.scale_by_learning_rate(learning_rate),
    )
