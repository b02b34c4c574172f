"""ACClip: every entry of the momentum clipped at a moving average of its magnitude.

J. Zhang, S. P. Karimireddy, A. Veit, S. Kim, S. J. Reddi, S. Kumar, S. Sra, "Why are Adaptive
Methods Good for Attention Models?", NeurIPS 2020, arXiv 1912.03194, Algorithm 2.
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
    chain,
    keep,
    lift,
    scales_like,
    wide_zeros_like,
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
    """Clip every entry of the momentum at the power mean of its gradients so far."""
    _validate.open_unit("b1", b1)
    _validate.open_unit("b2", b2)
    _validate.within("alpha", alpha, 1, 2)
    _validate.positive("eps", eps)

    def init(leaf: Array) -> Memory:
        return {"momentum": wide_zeros_like(leaf), "scales": scales_like(leaf, 0.0)}

    def update(gradient: Array, memory: Memory, context: EntryContext) -> tuple[Array, Memory]:
        momentum = average(gradient, memory["momentum"], b1, context)
        sizes = jnp.abs(gradient)
        before = memory["scales"].astype(sizes.dtype)
        scale = keep(power_mean(before, sizes, b2, alpha), memory["scales"], context)
        value = momentum.astype(gradient.dtype)
        ratio = scale.astype(sizes.dtype) / (jnp.abs(value) + jnp.asarray(eps, sizes.dtype))
        return value * jnp.minimum(ratio, 1), {"momentum": momentum, "scales": scale}

    rule = EntryRule(init, update)
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
    """Clip every entry of the momentum at a moving average of its magnitude (ACClip).

    Thresholds adapt to each coordinate, for noise with heavy tails in some of them only, as in
    attention models. Prefer it to `clip_adam` where steps should keep the gradient's size.

        m_t = b_1 m_{t-1} + (1 - b_1) g_t,
        tau_t^alpha = b_2 tau_{t-1}^alpha + (1 - b_2) |g_t|^alpha,
        x_{t+1} = x_t - eta_t min(1, tau_t/(|m_t| + epsilon)) m_t

    entry by entry; both averages start at zero, without bias correction.

    Args:
      learning_rate: Step size `eta`, non-negative, or an `optax.Schedule`.
      b1: Decay rate `b_1` of the momentum, in [0, 1), default .9 as in the paper.
      b2: That of the thresholds, `b_2`; default .99, the paper's (bfloat16: `scale_by_norm`).
      alpha: Power `alpha` of the averages, in [1, 2], default 1 as in the paper.
      eps: `epsilon`, keeps the ratio finite, positive; default 1e-5.
      nonfinite: As for `scale_by_norm`; the guard takes one more read.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, whose updates are added to the parameters: no entry's exceeds `eta tau`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.acclip(1.0, b1=0.5, b2=0.75)  # of 8: the momentum 4, clipped at 2
      >>> print(optimizer.update(jnp.array([8.0]), optimizer.init(jnp.zeros(1)))[0])
      [-1.999995]

    References:
      Zhang et al., "Why are Adaptive Methods Good for Attention Models?", arXiv 1912.03194.
    """
    _validate.learning_rate(learning_rate)
    return chain(
        scale_by_acclip(
            b1=b1, b2=b2, alpha=alpha, eps=eps, nonfinite=nonfinite, axis_name=axis_name
        ),
        optax.scale_by_learning_rate(learning_rate),
    )
