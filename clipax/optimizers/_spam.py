"""Adam without spikes: SPAM.

T. Huang, Z. Zhu, G. Jin, L. Liu, Z. Wang, S. Liu, "SPAM: Spike-Aware Adam with Momentum Reset for
Stable LLM Training", ICLR 2025, arXiv 2501.06842.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import optax

from clipax import _validate
from clipax._typing import Array, AxisName, NonFinite, Scalar, ScalarOrSchedule
from clipax.engine import EntryContext, EntryRule, Memory, Moments, NormRules, Spec, add_decay, lift
from clipax.transforms._clip_by_value import bounded

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
    """Adam's direction on gradients without spikes, then the weight decay."""
    moments = Moments(b1, b2, eps)
    _validate.threshold("theta", theta)
    every = None if reset is None else _validate.index("reset", reset, minimum=1)
    ramp = _validate.optional_index("warmup", warmup)
    calm = _validate.index("clip_from", clip_from)
    if weight_decay is not None:
        _validate.non_negative("weight_decay", weight_decay)

    def update(gradient: Array, memory: Memory, context: EntryContext) -> tuple[Array, Memory]:
        assert context.steps is not None
        dtype = context.gradient_factor.dtype
        now = context.steps + 1
        since = now if every is None else now % every
        fresh = None if every is None else since == 0
        scales = memory["scales"].astype(jnp.finfo(gradient.dtype).dtype)
        limits = jnp.sqrt(jnp.asarray(theta, scales.dtype)) * scales
        # An entry that has seen nothing yet has no spikes: cut at zero it would stay there.
        clips = (scales > 0) & (since >= calm)
        if fresh is not None:
            clips &= ~fresh
        clipped = bounded(gradient, jnp.where(clips, limits, jnp.inf))
        memory = moments.add(clipped, memory, context, fresh)
        direction = moments.direction(memory, context, now)
        if every is not None and ramp:
            # The cosine of the authors' code: from .01 at the reset to 1 after `warmup` steps.
            angle = since.astype(dtype) * (math.pi / (ramp + 1))
            rising = 1 - 0.495 * (1 + jnp.cos(angle))
            direction *= jnp.where((now < every) | (since >= ramp), 1, rising)
        return add_decay(direction, context, weight_decay), memory

    rule = EntryRule(moments.init, update, weight_decay is not None, Moments.names)
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
    r"""Adam that cuts spikes of single entries and resets its averages (SPAM).

    An entry whose square exceeds many times its average is cut to that; what gets through is
    forgotten at the next reset. Prefer it where rare entries spike by factors of hundreds, as in
    the training of language models; it needs no threshold in units of the gradient.

    .. math::
        \hat g_t = \mathrm{sign}(g_t) \min(|g_t|, \sqrt{\theta v_{t-1}}), \quad
        m_t = b_1 m_{t-1} + (1 - b_1) \hat g_t, \quad
        v_t = b_2 v_{t-1} + (1 - b_2) \hat g_t^2, \\
        x_{t+1} = x_t - \eta_t \Big(s_t \, \frac{m_t/(1 - b_1^t)}{\sqrt{v_t/(1 - b_2^t)} + \epsilon}
        + \lambda x_t\Big)

    entry by entry, with :math:`\eta` the `learning_rate`, :math:`\theta` the `theta`,
    :math:`\epsilon` the `eps` and :math:`\lambda` the `weight_decay`. Before each step :math:`t`
    (from 1) that is a multiple of `reset`, :math:`m` and :math:`v` are zero again, and the rate is
    warmed up: :math:`s = 1 - .99 \, (1 + \cos(\pi k/(N + 1)))/2` in the :math:`k`-th step after
    it, :math:`k < N`, with :math:`N` the `warmup`; elsewhere :math:`s = 1`.

    Args:
      learning_rate: Step size, in units of the parameters; non-negative, or an `optax.Schedule`.
      b1: Decay rate of the momentum, in [0, 1); default .9.
      b2: Decay rate of the second moment, in [0, 1); default .999. `optax.inject_hyperparams`
        rounds it to the parameters' dtype: in bfloat16 pass it `hyperparam_dtype=jnp.float32`.
      eps: Keeps the divisor from zero, in units of the gradient; at least 1e-37, default 1e-8.
      theta: Largest square of an entry in units of its average, positive (infinity: never clip);
        default 5000 as in the paper.
      reset: Steps from one reset to the next, at least 1; default 500 as in the paper. None: none.
      warmup: Steps of the warm-up after each reset; default 150 as in the paper. None or 0: none.
      weight_decay: Decoupled weight decay, :math:`\lambda`, not warmed up; non-negative, None
        (default) for none.
      clip_from: Step of each cycle from which on spikes are cut, the reset being its step 0;
        default 20 as in the authors' code. 0: from the reset on, as the paper has it.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives no step and is
        forgotten; `"propagate"`: its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added. Both averages
      are kept in float32 or better.

    Guarantees:
      An entry whose average is zero is not cut, so that it cannot stay zero for ever. Steps that do
      not count delay the resets. Of the second moment the root is kept: 1e30 is remembered as such,
      until the reset at the latest.

    Edge cases:
      ================= ==========================================
      gradient          step
      ================= ==========================================
      zero              of the momentum, over decayed scales
      `v = 0`           the entry is not cut
      NaN or infinity   none; averages and the count of steps are kept
      ================= ==========================================

    Sharding:
      As for `clip_sgd`; both averages are sharded like the parameters.

    Raises:
      TypeError: An argument is of the wrong type; `reset`, `warmup` and `clip_from` must be
        concrete integers (`static_args` of `optax.inject_hyperparams`).
      ValueError: `learning_rate`, `weight_decay`, `warmup` or `clip_from` negative, `b1` or `b2`
        outside [0, 1), `eps` below 1e-37, `theta` not positive, `reset` below 1; when used: no
        `params` with decay.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.spam(1.0, b1=0.0, b2=0.75, theta=4.0, clip_from=1)
      >>> params = jnp.zeros(1)
      >>> state = optimizer.init(params)
      >>> for gradient in (2.0, 1000.0):  # the second is cut to 2, twice the root of v = 1
      ...     update, state = optimizer.update(jnp.array([gradient]), state, params)
      ...     print(update.round(4))
      [-1.]
      [-1.]

    References:
      T. Huang, Z. Zhu, G. Jin, L. Liu, Z. Wang, S. Liu, "SPAM: Spike-Aware Adam with Momentum Reset
      for Stable LLM Training", ICLR 2025, arXiv 2501.06842, Algorithm 1.

    Differences from the paper:
      Entries with an average of zero are not cut: there the paper's rule makes them, and so their
      average, zero for ever. The paper does not say what the cosine starts from, nor that the cut
      waits for `clip_from`, nor that the first cycle has no warm-up: these are as in the authors'
      code, whose `eps` is 1e-6. The bias correction counts all steps, as there: after a reset it
      corrects next to nothing, and the first step is `(1 - b1)/sqrt(1 - b2)`, 3.2 times as long as
      Adam's first, times the .01 of the warm-up. The sparse momentum of the paper is left out.
    """
    _validate.learning_rate(learning_rate)
    return optax.chain(
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
