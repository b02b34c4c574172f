"""ACClip: every entry of the momentum clipped at what was seen there.

J. Zhang et al., "Why are Adaptive Methods Good for Attention Models?", arXiv 1912.03194.
"""

from __future__ import annotations

import jax.numpy as jnp
import optax

from clipax import _validate
from clipax._statistics._moving import power_mean
from clipax._typing import Array, AxisName, NonFinite, Scalar, ScalarOrSchedule
from clipax.engine import (
    EntryContext,
    EntryRule,
    Memory,
    NormRules,
    Spec,
    average,
    keep,
    lift,
    scales_like,
    zeros_like,
)

__all__ = ["acclip"]


def scale_by_acclip(
    *,
    b1: Scalar,
    b2: Scalar,
    alpha: Scalar,
    eps: Scalar,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Clips every entry of the momentum at a moving average of what was seen there."""
    _validate.open_unit("b1", b1)
    _validate.open_unit("b2", b2)
    _validate.within("alpha", alpha, 1, 2)
    _validate.positive("eps", eps)

    def init(leaf: Array) -> Memory:
        return {"momentum": zeros_like(leaf), "scales": scales_like(leaf, 0.0)}

    def update(gradient: Array, memory: Memory, context: EntryContext) -> tuple[Array, Memory]:
        momentum = average(gradient, memory["momentum"], b1, context)
        sizes = jnp.abs(gradient)
        held = memory["scales"].astype(sizes.dtype)
        scale = keep(power_mean(held, sizes, b2, alpha), memory["scales"], context)
        value = momentum.astype(gradient.dtype)
        ratio = scale.astype(sizes.dtype) / (jnp.abs(value) + jnp.asarray(eps, sizes.dtype))
        return value * jnp.minimum(ratio, 1), {"momentum": momentum, "scales": scale}

    rule = EntryRule(init, update, names=("momentum", "scales"))
    return lift(Spec.of("global", nonfinite, axis_name), NormRules.of(), rule)


def acclip(
    learning_rate: ScalarOrSchedule,
    *,
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    alpha: Scalar = 1.0,
    eps: Scalar = 1e-5,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Clips every entry of the momentum at a moving average of its magnitude (ACClip).

    The thresholds adapt to each coordinate, which matters where the noise has heavy tails in some
    coordinates only, as in attention models. Prefer it to `clip_adam` where the steps should keep
    the gradient's size.

    .. math::
        m_t = b_1 m_{t-1} + (1 - b_1) g_t, \quad
        \tau_t^\alpha = b_2 \tau_{t-1}^\alpha + (1 - b_2) |g_t|^\alpha, \quad
        x_{t+1} = x_t - \eta_t \min\Big(1, \frac{\tau_t}{|m_t| + \epsilon}\Big) m_t

    entry by entry, with :math:`\eta` the `learning_rate` and :math:`\epsilon` the `eps`; both
    averages start at zero, without bias correction.

    Args:
      learning_rate: Step size in units of the parameters over those of the gradient; non-negative,
        or an `optax.Schedule`.
      b1: Decay rate of the momentum, in [0, 1), default .9 as in the paper.
      b2: Decay rate of the thresholds, in [0, 1), default .99 as in the paper.
        `optax.inject_hyperparams` rounds it to the parameters' dtype: in bfloat16 pass it
        `hyperparam_dtype=jnp.float32`.
      alpha: Power in which magnitudes are averaged, in [1, 2], default 1 as in the paper.
      eps: Keeps the ratio finite, positive, in units of the gradient; default 1e-5.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives no step and is
        forgotten; `"propagate"`: its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added. The
      thresholds are kept in float32 or better.

    Guarantees:
      No entry moves by more than `learning_rate * tau`. Thresholds are kept as such, not their
      powers, so that 1e30 is remembered as such.

    Edge cases:
      ================= ============================================
      gradient          step
      ================= ============================================
      zero              of the momentum, within the decayed thresholds
      NaN or infinity   none; momentum and thresholds are kept
      ================= ============================================

    Sharding:
      As for `clip_sgd`; momentum and thresholds are sharded like the parameters.

    Raises:
      TypeError: An argument is not a number.
      ValueError: `learning_rate` negative, `b1` or `b2` outside [0, 1), `alpha` outside [1, 2],
        `eps` not positive.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.acclip(1.0, b1=0.5, b2=0.75)
      >>> params = jnp.array([8.0, 0.0])
      >>> update, _ = optimizer.update(params, optimizer.init(params), params)
      >>> print(update)  # the momentum 4, clipped at 2
      [-1.999995 -0.      ]

    References:
      J. Zhang, S. P. Karimireddy, A. Veit, S. Kim, S. J. Reddi, S. Kumar, S. Sra, "Why are Adaptive
      Methods Good for Attention Models?", NeurIPS 2020, arXiv 1912.03194, Algorithm 2.

    Differences from the paper:
      None for finite gradients. One read of the gradient checks that it is.
    """
    _validate.learning_rate(learning_rate)
    return optax.chain(
        scale_by_acclip(
            b1=b1, b2=b2, alpha=alpha, eps=eps, nonfinite=nonfinite, axis_name=axis_name
        ),
        optax.scale_by_learning_rate(learning_rate),
    )
