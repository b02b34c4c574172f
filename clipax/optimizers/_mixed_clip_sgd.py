"""Mixed and momentum clipping.

B. Zhang, J. Jin, C. Fang, L. Wang, "Improved Analysis of Clipping Algorithms for Non-convex
Optimization", arXiv 2010.02519.
"""

from __future__ import annotations

import jax.numpy as jnp
import optax

from clipax import _validate, norms
from clipax._typing import Array, AxisName, NonFinite, Scalar, ScalarOrSchedule
from clipax.norms import NormRule
from clipax.optimizers._momentum_norm import scale_by_momentum_norm

__all__ = ["mixed_clip_sgd", "momentum_clip_sgd"]


def mixed_clip_sgd(
    learning_rate: ScalarOrSchedule,
    max_step: ScalarOrSchedule,
    *,
    nu: Scalar = 0.7,
    decay: Scalar = 0.999,
    response: str = "hard",
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Moves along clipped momentum and clipped gradient at once, each cut by its own norm.

    One method that has clipped SGD (`nu = 0`), momentum clipping (`nu = 1`) and quasi-hyperbolic
    momentum (`max_step` infinite) as its corners. Prefer it to `clip_sgd` where momentum helps.

    .. math::
        m_t = b\, m_{t-1} + (1 - b)\, g_t, \qquad
        x_{t+1} = x_t - \Big[ \nu \min\Big(\eta_t, \frac{G}{\|m_t\|}\Big) m_t
        + (1 - \nu) \min\Big(\eta_t, \frac{G}{\|g_t\|}\Big) g_t \Big]

    with :math:`\eta` the `learning_rate`, :math:`G` the `max_step`, :math:`\nu` the `nu` and
    :math:`b` the `decay`. The soft response replaces :math:`\min(\eta, G/n)` by
    :math:`\eta/(1 + \eta n/G)`, which lies within half of it and all of it.

    Args:
      learning_rate: Step size in units of the parameters over those of the gradient; non-negative,
        or an `optax.Schedule`.
      max_step: Longest step, in units of the parameters: a positive number, which stays constant
        while the rate decays (infinity: never clip), or an `optax.Schedule`. For a constant
        threshold on the norm, as in the authors' runs, let it decay with the rate.
      nu: Share of the momentum, in [0, 1]; default .7 as in the authors' code.
      decay: Decay rate of the momentum, in [0, 1), from zero and without bias correction; default
        .999 as in the authors' code. The
        momentum is kept in float32 or better; `optax.inject_hyperparams` rounds the rate to the
        parameters' dtype: in bfloat16 pass it `hyperparam_dtype=jnp.float32`.
      response: `"hard"` (default), the paper's minimum, or `"soft"`, the authors' code.
      weight_decay: Coupled weight decay: this multiple of the parameters is added to the gradient
        before momentum and norms; non-negative, None (default) for none.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives no step and is
        forgotten; `"propagate"`: its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added.

    Guarantees:
      No step is longer than `max_step`, up to rounding. Scaling `learning_rate` and `max_step`
      scales the step. `clipax.metrics` reports two blocks, `gradient` and `averaged`.

    Edge cases:
      ================= ============================
      gradient          step
      ================= ============================
      zero              of the momentum alone
      NaN or infinity   none; the momentum is kept
      rate 0            none; the momentum advances
      ================= ============================

    Sharding:
      As for `clip_sgd`, a collective for each of the two norms; inside `shard_map` they share one.

    Raises:
      TypeError: An argument is of the wrong type.
      ValueError: `learning_rate` or `weight_decay` negative, `max_step` not positive, `nu` outside
        [0, 1], `decay` outside [0, 1), `response` unknown; when used: no `params` with decay.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.mixed_clip_sgd(1.0, max_step=1.0, nu=0.5, decay=0.5)
      >>> params = jnp.array([6.0])
      >>> update, _ = optimizer.update(params, optimizer.init(params), params)
      >>> print(update)  # momentum 3 and gradient 6, both cut to 1
      [-1.]

    References:
      B. Zhang, J. Jin, C. Fang, L. Wang, "Improved Analysis of Clipping Algorithms for Non-convex
      Optimization", NeurIPS 2020, arXiv 2010.02519, Algorithm 1.

    Differences from the paper:
      None with the hard response; the soft one is that of the code that the authors published.
    """
    return _clipped(
        learning_rate, max_step, response, decay, nu, weight_decay, nonfinite, axis_name
    )


def momentum_clip_sgd(
    learning_rate: ScalarOrSchedule,
    max_step: ScalarOrSchedule,
    *,
    decay: Scalar = 0.9,
    response: str = "hard",
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Moves along the momentum, clipped by its own norm.

    The clip sees the averaged gradient, so it bites less often than a clip of the gradient does.
    Prefer it where single large gradients are harmless but long steps are not.

    .. math::
        m_t = b\, m_{t-1} + (1 - b)\, g_t, \qquad
        x_{t+1} = x_t - \min\Big(\eta_t, \frac{G}{\|m_t\|}\Big) m_t

    with :math:`\eta` the `learning_rate`, :math:`G` the `max_step` and :math:`b` the `decay`. The
    soft response replaces :math:`\min(\eta, G/n)` by :math:`\eta/(1 + \eta n/G)`.

    Args:
      learning_rate: Step size in units of the parameters over those of the gradient; non-negative,
        or an `optax.Schedule`.
      max_step: Longest step, in units of the parameters: a positive number, which stays constant
        while the rate decays (infinity: never clip), or an `optax.Schedule`.
      decay: Decay rate of the momentum, in [0, 1), from zero and without bias correction; default
        .9 as in the authors' code. The
        momentum is kept in float32 or better; `optax.inject_hyperparams` rounds the rate to the
        parameters' dtype: in bfloat16 pass it `hyperparam_dtype=jnp.float32`.
      response: `"hard"` (default), the paper's minimum, or `"soft"`, the authors' code.
      weight_decay: Coupled weight decay: this multiple of the parameters is added to the gradient
        before momentum and norms; non-negative, None (default) for none.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives no step and is
        forgotten; `"propagate"`: its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added.

    Guarantees:
      No step is longer than `max_step`, up to rounding. Scaling `learning_rate` and `max_step`
      scales the step. `clipax.metrics` reports two blocks, `gradient` and `averaged`.

    Edge cases:
      ================= ============================
      gradient          step
      ================= ============================
      zero              of the momentum
      NaN or infinity   none; the momentum is kept
      rate 0            none; the momentum advances
      ================= ============================

    Sharding:
      As for `clip_sgd`, a collective for each of the two norms; inside `shard_map` they share one.

    Raises:
      TypeError: An argument is of the wrong type.
      ValueError: `learning_rate` or `weight_decay` negative, `max_step` not positive, `decay`
        outside [0, 1), `response` unknown; when used: no `params` with decay.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.momentum_clip_sgd(1.0, max_step=2.0, decay=0.5)
      >>> params = jnp.array([6.0])
      >>> update, _ = optimizer.update(params, optimizer.init(params), params)
      >>> print(update)  # the momentum 3, cut to 2
      [-2.]

    References:
      B. Zhang, J. Jin, C. Fang, L. Wang, "Improved Analysis of Clipping Algorithms for Non-convex
      Optimization", NeurIPS 2020, arXiv 2010.02519, Algorithm 1 with nu = 1.

    Differences from the paper:
      None with the hard response; the soft one is that of the code that the authors published.
    """
    return _clipped(
        learning_rate, max_step, response, decay, None, weight_decay, nonfinite, axis_name
    )


def _clipped(
    learning_rate: ScalarOrSchedule,
    max_step: ScalarOrSchedule,
    response: str,
    decay: Scalar,
    nu: Scalar | None,
    weight_decay: Scalar | None,
    nonfinite: NonFinite,
    axis_name: AxisName,
) -> optax.GradientTransformationExtraArgs:
    _validate.learning_rate(learning_rate)
    if not callable(max_step):
        _validate.threshold("max_step", max_step)
    _validate.one_of("response", response, ("hard", "soft"))

    def threshold(count: Array) -> Array:
        """`G/eta`: `min(eta, G/n)` is `eta` times the clip at it; none without a step."""
        rate, longest = (
            jnp.asarray(value(count) if callable(value) else value, float)
            for value in (learning_rate, max_step)
        )
        moves = rate > 0
        return jnp.where(moves, longest / jnp.where(moves, rate, 1), jnp.inf)

    hard = response == "hard"
    cut: NormRule = norms.clip(threshold) if hard else norms.smooth(threshold, "rational")
    return optax.chain(
        scale_by_momentum_norm(
            cut,
            decay=decay,
            nu=nu,
            weight_decay=weight_decay,
            nonfinite=nonfinite,
            axis_name=axis_name,
        ),
        optax.scale_by_learning_rate(learning_rate),
    )
