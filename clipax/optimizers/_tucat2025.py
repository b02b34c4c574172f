"""Regularized gradient clipping (delta-GClip).

M. Tucat, A. Mukherjee et al., "Regularized Gradient Clipping Provably Trains Wide and Deep Neural
Networks", arXiv 2404.08624.
"""

from __future__ import annotations

import optax

from clipax import _validate, norms
from clipax._typing import AxisName, NonFinite, Scalar, ScalarOrSchedule
from clipax.thresholds import Threshold
from clipax.transforms import scale_by_norm

__all__ = ["regularized_clip_sgd"]


def regularized_clip_sgd(
    learning_rate: ScalarOrSchedule,
    threshold: ScalarOrSchedule | Threshold,
    delta: Scalar,
    *,
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Stochastic gradient descent with a clip that never scales by less than a floor.

    The floor gives linear convergence for wide networks under a Polyak-Lojasiewicz condition, which
    plain clipping lacks. It does not bound the step: prefer `clip_sgd` against outliers.

    .. math:: x_{t+1} = x_t - h_t (g_t + \lambda x_t), \qquad
        h_t = \eta_t \min(1, \max(\delta, \gamma/\|g_t\|))

    with :math:`\eta` the `learning_rate`, :math:`\gamma` the `threshold` and :math:`\lambda` the
    `weight_decay`.

    Args:
      learning_rate: Step size, non-negative, or an `optax.Schedule` of the 0-based step count.
      threshold: Gradient norm at which clipping begins: a positive number, an `optax.Schedule` or
        a `Threshold`. The authors use .1.
      delta: Smallest factor, in [0, 1]; the authors use 1e-3. 0 is `clip_sgd`, 1 plain SGD.
      weight_decay: Coefficient of the parameters, non-negative; None (default) for none. It enters
        after the norm was measured and is scaled by the same step size.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives no step; `"propagate"`:
        its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added.

    Guarantees:
      `delta = 0` is `clip_sgd` and `delta = 1` is SGD, exactly. On `||Aw - y||^2/2` with a rate of
      at most `1/beta` every step contracts the loss by `1 - eta delta mu`, where beta and mu are
      the largest and smallest eigenvalue of `A A'`.

    Edge cases:
      ================= =========================
      gradient          step
      ================= =========================
      zero              of the weight decay alone
      NaN or infinity   none, counted
      ================= =========================

    Sharding:
      As for `clip_sgd`.

    Raises:
      TypeError: An argument is of the wrong type.
      ValueError: `learning_rate` or `weight_decay` negative, `threshold` not positive, `delta`
        outside [0, 1]; when used: no `params` where there is weight decay.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.regularized_clip_sgd(1.0, threshold=1.0, delta=0.5)
      >>> params = jnp.array([0.0, 8.0])
      >>> print(optimizer.update(params, optimizer.init(params), params)[0])
      [-0. -4.]

    References:
      M. Tucat, A. Mukherjee et al., "Regularized Gradient Clipping Provably Trains Wide and Deep
      Neural Networks", arXiv 2404.08624.

    Differences from the paper:
      None for finite gradients. In the authors' published ViT runs the floor never acted: norms
      were up to about 14, and the floor starts at `threshold/delta`, 100 or more there.
    """
    _validate.learning_rate(learning_rate)
    return optax.chain(
        scale_by_norm(
            norms.regularized(threshold, delta),
            weight_decay=weight_decay,
            nonfinite=nonfinite,
            axis_name=axis_name,
        ),
        optax.scale_by_learning_rate(learning_rate),
    )
