"""Clipping where, and as far as, it reduces the noise of a step.

N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of SGD with
Gradient Clipping in High-Dimensions", arXiv 2406.11733.
"""

from __future__ import annotations

import optax

from clipax import _validate, thresholds
from clipax._typing import AxisName, NonFinite, ScalarOrSchedule
from clipax.transforms import clip_by_global_norm

__all__ = ["max_ccc_sgd"]


def max_ccc_sgd(
    learning_rate: ScalarOrSchedule,
    *,
    window: int = 500,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Stochastic gradient descent, clipped where the comparison criterion is largest.

    The threshold is found from the last gradient norms, the learning rate made up for what it cuts
    off, and nothing is clipped where that would not help. Prefer it where there is no threshold to
    begin with and the noise may or may not have heavy tails.

    .. math::
        x_{t+1} = x_t - \frac{\eta_t}{F_t(c_t)} \min(1, c_t/\|g_t\|)\, g_t, \qquad
        c_t = \arg\max_c \frac{F_t(c)^2 \, \overline{n^2}}{\overline{\min(n^2, c^2)}}

    with :math:`\eta` the `learning_rate`, :math:`F_t(c)` the share of the last `window` norms
    :math:`n` that are at most :math:`c`, and bars for means over them. Where the largest value is
    at most 1, :math:`c_t = \infty` and :math:`F_t = 1`: plain gradient descent.

    Args:
      learning_rate: Step size of unclipped gradient descent, non-negative, or an `optax.Schedule`
        of the 0-based step count.
      window: How many norms are remembered, at least 20; default 500.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives no step and is not
        remembered; `"propagate"`: its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added.

    Guarantees:
      The share within the threshold is at least a tenth: no step is longer than ten times that of
      plain gradient descent. The first ten steps are not clipped. Twice
      `window` numbers are kept.

    Edge cases:
      ================= ==========================================
      gradient          step
      ================= ==========================================
      zero              none; remembered as a norm of 0
      NaN or infinity   none, counted and not remembered
      ================= ==========================================

    Sharding:
      As for `clip_sgd`.

    Raises:
      TypeError: An argument is of the wrong type; `window` must be a concrete integer
        (`static_args` of `optax.inject_hyperparams`).
      ValueError: `learning_rate` negative, `window` below 20.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.max_ccc_sgd(1.0, window=20)
      >>> params = jnp.zeros(1)
      >>> state = optimizer.init(params)
      >>> for gradient in [1.0] * 19 + [100.0]:
      ...     update, state = optimizer.update(jnp.array([gradient]), state, params)
      >>> print(update)  # clipped to 1, and 20/19 for 19 of 20 norms within
      [-1.0526316]

    References:
      N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of
      SGD with Gradient Clipping in High-Dimensions", arXiv 2406.11733.

    Differences from the paper:
      The paper's schedule knows the distribution of the residual of streaming least squares; this
      one reads an empirical criterion off the norms of any gradients (`clipax.thresholds.max_ccc`).
    """
    _validate.learning_rate(learning_rate)
    return optax.chain(
        clip_by_global_norm(
            thresholds.max_ccc(window=window), nonfinite=nonfinite, axis_name=axis_name
        ),
        optax.scale_by_learning_rate(learning_rate),
    )
