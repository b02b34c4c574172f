"""SPAM: Adam without spikes.

T. Huang, Z. Zhu, G. Jin, L. Liu, Z. Wang, S. Liu, "SPAM: Spike-Aware Adam with Momentum Reset
for Stable LLM Training", ICLR 2025, arXiv 2501.06842.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import optax

from clipax import _validate
from clipax._typing import Array, AxisName, NonFinite, Scalar, ScalarOrSchedule
from clipax.engine import (
    EntryContext,
    EntryRule,
    Memory,
    Moments,
    NormRules,
    Spec,
    add_decay,
    chain,
    lift,
)
from clipax.transforms._clip_by_value import cut_entries

__all__ = ["spam"]


def scale_by_spam(
    *,
    b1: Scalar,
    b2: Scalar,
    eps: Scalar,
    theta: Scalar,
    reset: int | None,
    warmup: int | None,
    clip_from: int,
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Compute Adam's direction on gradients without spikes, then add the weight decay."""
    moments = Moments(b1, b2, eps)
    _validate.threshold("theta", theta)
    every = None if reset is None else _validate.integer("reset", reset, minimum=1)
    ramp = 0 if warmup is None else _validate.integer("warmup", warmup)
    calm = _validate.integer("clip_from", clip_from)
    if weight_decay is not None:
        _validate.non_negative("weight_decay", weight_decay)

    def update(gradient: Array, memory: Memory, context: EntryContext) -> tuple[Array, Memory]:
        assert context.steps is not None
        dtype = context.gradient_factor.dtype
        now = context.steps + 1
        since = now if every is None else now % every
        fresh = None if every is None else since == 0
        scales = memory["scales"].astype(jnp.finfo(gradient.dtype).dtype)
        limits = jnp.sqrt(_validate.to_float(theta, scales.dtype)) * scales
        # An entry whose gradients were all zero has no limit yet: cut at zero it would stay there.
        clips = (scales > 0) & (since >= calm)
        if fresh is not None:
            clips &= ~fresh
        clipped = cut_entries(gradient, jnp.where(clips, limits, jnp.inf))
        memory = moments.add(clipped, memory, context, fresh)
        direction = moments.direction(memory, context, now)
        if every is not None and not (isinstance(ramp, int) and ramp == 0):
            # The cosine of the authors' code: from .01 at the reset to 1 after `warmup` steps.
            angle = since.astype(dtype) * (math.pi / (ramp + 1))
            rising = 1 - 0.495 * (1 + jnp.cos(angle))
            direction *= jnp.where((now < every) | (since >= ramp), 1, rising)
        return add_decay(direction, context, weight_decay), memory

    rule = EntryRule(moments.init, update, weight_decay is not None)
    return lift(Spec.of("global", nonfinite, axis_name), NormRules.of(), rule)


def spam(
    learning_rate: ScalarOrSchedule,
    *,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    theta: Scalar = 5000.0,
    reset: int | None = 500,
    warmup: int | None = 150,
    weight_decay: Scalar | None = None,
    clip_from: int = 20,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Run Adam with spikes of single entries cut and its averages reset now and then (SPAM).

    The rest of a spike is forgotten at the next reset. Prefer it where rare entries spike by
    factors of hundreds, as in language models; it needs no threshold in units of the gradient.

        ghat_t = sign(g_t) min(|g_t|, sqrt(theta v_{t-1})),
        m_t = b_1 m_{t-1} + (1 - b_1) ghat_t,
        v_t = b_2 v_{t-1} + (1 - b_2) ghat_t^2,
        x_{t+1} = x_t - eta_t (s_t (m_t/(1 - b_1^t))/(sqrt(v_t/(1 - b_2^t)) + epsilon) + lambda x_t)

    entry by entry. Before each step (from 1) that is a multiple of `reset`, `m` and `v` are zero
    again; in the `k`-th step after it `s = 1 - .99 (1 + cos(pi k/(N + 1)))/2` for `k < N`; else
    `s = 1`.

    Args:
      learning_rate: Step size `eta`; non-negative, or an `optax.Schedule`.
      b1: Decay rate `b_1` of the momentum, in [0, 1); default .9.
      b2: Decay rate `b_2` of squares, in [0, 1); default .999 (bfloat16: `scale_by_norm`).
      eps: `epsilon`, the least divisor, from 1e-37 on; default 1e-8 (authors: 1e-6).
      theta: Largest square over its average, `theta`; default 5000 (paper), or infinity.
      reset: Steps between resets, at least 1; default 500, the paper's. None: no reset.
      warmup: Steps `N` of the warm-up after a reset; default 150, the paper's.
      weight_decay: `lambda`, decoupled, non-negative; needs `params`. None (default): none.
      clip_from: Step after a reset from which spikes are cut; default 20 (authors' code), paper 0.
      nonfinite: As for `scale_by_norm`; such a step delays the resets.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, whose updates are added to the parameters.

    Notes:
      - An entry whose average is zero is not cut: the paper's rule would keep it zero for ever.
      - The start of the cosine, the first cycle without warm-up and a bias correction that counts
        all steps are the authors'. After a reset it does next to nothing: the first step is
        `(1 - b1)/sqrt(1 - b2)`, 3.2 times Adam's first, times .01. Sparse momentum is left out.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.spam(1.0, b1=0.0, b2=0.75, theta=4.0, clip_from=1)
      >>> _, state = optimizer.update(jnp.array([2.0]), optimizer.init(jnp.zeros(1)))  # v = 1
      >>> print(optimizer.update(jnp.array([1000.0]), state)[0].round(4))  # cut to 2
      [-1.]

    References:
      Huang et al., "SPAM: Spike-Aware Adam with Momentum Reset", arXiv 2501.06842, Algorithm 1.
    """
    _validate.learning_rate(learning_rate)
    return chain(
        scale_by_spam(
            b1=b1,
            b2=b2,
            eps=eps,
            theta=theta,
            reset=reset,
            warmup=warmup,
            clip_from=clip_from,
            weight_decay=weight_decay,
            nonfinite=nonfinite,
            axis_name=axis_name,
        ),
        optax.scale_by_learning_rate(learning_rate),
    )
