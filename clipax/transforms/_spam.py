"""Adam that cuts spikes of single entries at their scale, and forgets its averages now and then."""

from __future__ import annotations

import math

import jax.numpy as jnp
import optax

from clipax import _validate
from clipax._typing import Array, AxisName, NonFinite, Scalar
from clipax.transforms._clip_by_value import bounded
from clipax.transforms._entries import Memory, Rule, Step
from clipax.transforms._guarded import guarded
from clipax.transforms._moments import Moments, decayed

__all__ = ["scale_by_spam"]


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

    def update(gradient: Array, memory: Memory, step: Step) -> tuple[Array, Memory]:
        assert step.steps is not None
        dtype = step.factor.dtype
        now = step.steps + 1
        since = now if every is None else now % every
        fresh = None if every is None else since == 0
        scales = memory["scales"].astype(jnp.finfo(gradient.dtype).dtype)
        limits = jnp.sqrt(jnp.asarray(theta, scales.dtype)) * scales
        # An entry that has seen nothing yet has no spikes: cut at zero it would stay there.
        clips = (scales > 0) & (since >= calm)
        if fresh is not None:
            clips &= ~fresh
        clipped = bounded(gradient, jnp.where(clips, limits, jnp.inf))
        memory = moments.grown(clipped, memory, step, fresh)
        direction = moments.direction(memory, step, now)
        if every is not None and ramp:
            # The cosine of the authors' code: from .01 at the reset to 1 after `warmup` steps.
            angle = since.astype(dtype) * (math.pi / (ramp + 1))
            rising = 1 - 0.495 * (1 + jnp.cos(angle))
            direction *= jnp.where((now < every) | (since >= ramp), 1, rising)
        result = decayed(direction, step, weight_decay)
        return jnp.where(step.finite, result, step.fill), memory

    rule = Rule(moments.init, update, needs_params=weight_decay is not None)
    return guarded(rule=rule, nonfinite=nonfinite, axis_name=axis_name)
