"""Clipped and normalised gradient descent.

J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why gradient clipping accelerates training: A theoretical
justification for adaptivity", ICLR 2020, arXiv 1905.11881.
"""

from __future__ import annotations

import optax

from clipax import _validate, norms
from clipax._typing import AxisName, NonFinite, Scalar, ScalarOrSchedule
from clipax.scopes import Scope
from clipax.thresholds import Threshold
from clipax.transforms import normalize_by_global_norm, scale_by_norm

__all__ = ["clip_sgd", "normalized_sgd"]


def clip_sgd(
    learning_rate: ScalarOrSchedule,
    threshold: ScalarOrSchedule | Threshold,
    *,
    scope: str | Scope = "global",
    offset: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Stochastic gradient descent on the clipped gradient.

    A bounded step wherever the gradient explodes, plain gradient descent elsewhere: it may take
    learning rates that are larger, by any factor, than those under which gradient descent is
    stable. The first choice under heavy-tailed noise.

    .. math:: x_{t+1} = x_t - \eta_t \min\left(1, \frac{c}{\|g_t\| + \tau}\right) g_t

    with :math:`\eta` the `learning_rate`, :math:`c` the `threshold` on the gradient norm and
    :math:`\tau` the `offset`, which is zero in general.

    Args:
      learning_rate: Step size, non-negative, or an `optax.Schedule` of the 0-based step count.
      threshold: Largest norm of the clipped gradient: a positive number (infinity: plain SGD), an
        `optax.Schedule`, or a `Threshold`. The paper's theorem has `min(10 L0, L0/L1)` with a rate
        of `1/(10 L0)` (`clipax.theory.clip_sgd_smooth`).
      scope: Which entries share a norm; `"global"` (default, the paper's), `"leaf"`, `"unit"` or a
        scope of `clipax.scopes`.
      offset: Added to the norm before it is compared, non-negative: the bound of the noise in the
        paper's stochastic theorem (`clipax.theory.clip_sgd_bounded_noise`). None (default): none.
      nonfinite: `"zero"` (default): a block with NaN or infinity is left out of the step;
        `"propagate"`: its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added.

    Guarantees:
      No step is longer than `learning_rate * threshold` (to rounding), for other scopes no block's
      step. An infinite threshold is plain SGD, bit for bit.

    Edge cases:
      ================= =====================
      gradient          step
      ================= =====================
      zero              none
      NaN or infinity   none, counted
      ================= =====================

    Sharding:
      One all-reduce for each mesh axis under `jit` (for up to 256 leaves), one `psum` inside
      `shard_map`.

    Raises:
      TypeError: An argument is of the wrong type.
      ValueError: `learning_rate` or `offset` negative, `threshold` not positive, `scope` unknown.

    Example:
      >>> import jax.numpy as jnp, optax, clipax
      >>> optimizer = clipax.clip_sgd(learning_rate=0.5, threshold=1.0)
      >>> params = jnp.array([30.0])
      >>> update, _ = optimizer.update(4 * params**3, optimizer.init(params), params)
      >>> print(optax.apply_updates(params, update))
      [29.5]

    References:
      J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why gradient clipping accelerates training: A
      theoretical justification for adaptivity", ICLR 2020, arXiv 1905.11881, Theorem 3.
      A. Koloskova, H. Hendrikx, S. U. Stich, "Revisiting Gradient Clipping: Stochastic bias and
      tight convergence guarantees", ICML 2023, arXiv 2305.01588.

    Differences from the paper:
      The paper writes the step as `min(eta, gamma eta/n) g`; its `gamma` is our `threshold`. Its
      stochastic theorem prints `min(eta, 1/(16 eta L1 (n + tau)))`; the `eta` within does not fit
      the units, and is left out here: `threshold = 1/(16 L1 eta)`.
    """
    _validate.learning_rate(learning_rate)
    return optax.chain(
        scale_by_norm(
            norms.clip(threshold, offset=offset),
            scope=scope,
            nonfinite=nonfinite,
            axis_name=axis_name,
        ),
        optax.scale_by_learning_rate(learning_rate),
    )


def normalized_sgd(
    learning_rate: ScalarOrSchedule,
    eps: Scalar,
    *,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Stochastic gradient descent on the normalised gradient.

    Every step has (almost) the length of the learning rate, so a schedule decides how far the
    iterates move. Clipped SGD takes steps between once and twice as long at matched constants.

    .. math:: x_{t+1} = x_t - \frac{\eta_t}{\|g_t\| + \epsilon}\, g_t

    with :math:`\eta` the `learning_rate` and :math:`\epsilon` the `eps`.

    Args:
      learning_rate: Largest length of a step, non-negative, or an `optax.Schedule` of the count.
      eps: What keeps small gradients small, in units of the gradient norm; non-negative. The
        paper's beta, which it sets to the clipping threshold.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives no step; `"propagate"`:
        its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added.

    Guarantees:
      No step is longer than `learning_rate` (to rounding). With `eps = c` and the rate `eta c` the
      step is between 1/2 and 1 times that of `clip_sgd(eta, c)`.

    Edge cases:
      ================= =======================
      gradient          step
      ================= =======================
      zero              none, for `eps = 0` too
      `n` below 1e-19   as for zero, with `eps = 0`
      NaN or infinity   none, counted
      ================= =======================

    Sharding:
      As for `clip_sgd`.

    Raises:
      TypeError: An argument is not a number (or schedule).
      ValueError: `learning_rate` or `eps` is negative.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.normalized_sgd(learning_rate=0.5, eps=0.0)
      >>> params = jnp.array([3.0, 4.0])
      >>> print(optimizer.update(params, optimizer.init(params), params)[0])
      [-0.3 -0.4]

    References:
      J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why gradient clipping accelerates training: A
      theoretical justification for adaptivity", ICLR 2020, arXiv 1905.11881.

    Differences from the paper:
      `eps = 0` is allowed: a zero gradient gives no step.
    """
    _validate.learning_rate(learning_rate)
    return optax.chain(
        normalize_by_global_norm(eps, nonfinite=nonfinite, axis_name=axis_name),
        optax.scale_by_learning_rate(learning_rate),
    )
