"""Clipping at a quantile of the gradient norms.

I. Merad, S. Gaiffas, "Robust Stochastic Optimization via Gradient Quantile Clipping", arXiv
2309.17316; E. Shulgin, P. Richtarik, "On the Convergence of DP-SGD with Adaptive Clipping", arXiv
2412.19916.
"""

from __future__ import annotations

import optax

from clipax import _validate, thresholds
from clipax._typing import AxisName, NonFinite, ScalarOrSchedule
from clipax.transforms import clip_by_global_norm

__all__ = ["quantile_clip_sgd"]


def quantile_clip_sgd(
    learning_rate: ScalarOrSchedule,
    quantile: ScalarOrSchedule,
    *,
    window: int = 100,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Stochastic gradient descent, clipped at a quantile of the last gradient norms.

    No threshold to tune: the share of clipped steps is given instead, and holds at every scale of
    the gradient. Prefer it to `clip_sgd` where gradients shrink by orders of magnitude during the
    run, and under noise with outliers of any size.

    .. math:: x_{t+1} = x_t - \eta_t \min(1, c_t/\|g_t\|)\, g_t

    with :math:`\eta` the `learning_rate` and :math:`c_t` the order statistic of rank
    :math:`\lceil p S \rceil` (from 1) of the last :math:`S` norms, the current one included, of
    those seen so far when they are fewer; :math:`p` is the `quantile` and :math:`S` the `window`.

    Args:
      learning_rate: Step size, non-negative, or an `optax.Schedule` of the 0-based step count.
      quantile: Which quantile, in (0, 1), or an `optax.Schedule`, for example
        `clipax.thresholds.increasing_quantile`. A fixed one keeps a bias; quantiles that increase
        to 1, with decreasing rates, remove it.
      window: How many norms are remembered, at least 1; default 100.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives no step and is not
        remembered; `"propagate"`: its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added.

    Guarantees:
      The threshold is one of the last norms, exactly; the first step is not clipped. Twice
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
      ValueError: `learning_rate` negative, `quantile` outside (0, 1), `window` below 1.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.quantile_clip_sgd(1.0, quantile=0.5)
      >>> params = jnp.zeros(1)
      >>> state = optimizer.init(params)
      >>> for gradient in (2.0, 100.0):
      ...     update, state = optimizer.update(jnp.array([gradient]), state, params)
      ...     print(update)
      [-2.]
      [-2.]

    References:
      I. Merad, S. Gaiffas, "Robust Stochastic Optimization via Gradient Quantile Clipping", arXiv
      2309.17316.
      E. Shulgin, P. Richtarik, "On the Convergence of DP-SGD with Adaptive Clipping", arXiv
      2412.19916.

    Differences from the paper:
      The theory's quantile is that of the norm's distribution at the current parameters; this is
      that of the last norms. Parameters are not averaged.
    """
    _validate.learning_rate(learning_rate)
    return optax.chain(
        clip_by_global_norm(
            thresholds.quantile(quantile, window=window),
            nonfinite=nonfinite,
            axis_name=axis_name,
        ),
        optax.scale_by_learning_rate(learning_rate),
    )
