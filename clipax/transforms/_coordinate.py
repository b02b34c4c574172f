"""Scales for single entries: the divisors of AdaGrad and Adam, and the thresholds of ACClip.

A scale is kept as such, never squared, and in float32 or better: an average of squares in bfloat16
stands still as soon as it changes by less than one part in 256 a step.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax
from jax import lax

from clipax import _validate, norms
from clipax._leaves import accumulation_dtype
from clipax._typing import Array, AxisName, NonFinite, Scalar, ScalarOrSchedule
from clipax.norms._scales import Scale, power_mean
from clipax.thresholds import Threshold
from clipax.transforms._clip_by_value import bounded, usable
from clipax.transforms._entries import Memory, Rule, Step, averaged, keep, zeros_like
from clipax.transforms._guarded import guarded

__all__ = ["scale_by_acclip", "scale_by_clipped_entries"]


def scale_by_clipped_entries(
    threshold: ScalarOrSchedule | Threshold,
    scale: Scale,
    *,
    clip: str = "global",
    b1: Scalar | None = None,
    delay: int | None = None,
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Divides the (averaged) clipped gradient by a scale for each entry, then adds the decay."""
    _validate.one_of("clip", clip, ("global", "leaf", "coordinate"))
    steps = _validate.optional_index("delay", delay)
    if b1 is not None:
        _validate.open_unit("b1", b1)
    if weight_decay is not None:
        _validate.non_negative("weight_decay", weight_decay)
    limit = None
    if clip == "coordinate":
        if isinstance(threshold, Threshold):
            raise TypeError(
                "`threshold` must be a number or a schedule for clip='coordinate', which measures "
                f"no norm, got {threshold!r}."
            )
        if not callable(threshold):
            _validate.threshold("threshold", threshold)
        limit = threshold

    def init(leaf: Array) -> Memory:
        memory = {} if b1 is None else {"momentum": zeros_like(leaf)}
        scales = _scales_like(leaf, scale.b_init)
        if steps < 2:
            return memory | {"scales": scales}
        # The scales of the last steps; the newest stands before `position`.
        ring = jnp.broadcast_to(scales, (steps + 1, *scales.shape))
        return memory | {"scales": ring, "position": jnp.zeros((), jnp.int32)}

    def update(gradient: Array, memory: Memory, step: Step) -> tuple[Array, Memory]:
        clipped = gradient * step.factor
        if limit is not None:
            now = limit(step.count) if callable(limit) else limit
            clipped = bounded(clipped, usable(now, step.factor.dtype))
        new: Memory = {}
        value = clipped
        if b1 is not None:
            new["momentum"] = averaged(clipped, memory["momentum"], b1, step)
            value = new["momentum"].astype(clipped.dtype)
        scales, divisor = _grown(scale, jnp.abs(clipped), memory, step, steps)
        result = value / divisor.astype(value.dtype)
        if weight_decay is not None and step.param is not None:
            decay = jnp.asarray(weight_decay, step.factor.dtype)
            result += step.param.astype(result.dtype) * decay
        return jnp.where(step.finite, result, step.fill), new | scales

    rule = Rule(init, update, needs_params=weight_decay is not None)
    before = None if clip == "coordinate" else norms.clip(threshold)
    scope = "leaf" if clip == "leaf" else "global"
    return guarded(before, rule=rule, scope=scope, nonfinite=nonfinite, axis_name=axis_name)


def _grown(
    scale: Scale, sizes: Array, memory: Memory, step: Step, delay: int
) -> tuple[Memory, Array]:
    """The scales to remember and those to divide by."""
    held = memory["scales"]
    if delay < 2:
        new = keep(scale.accumulate(held.astype(sizes.dtype), sizes), held, step)
        return {"scales": new}, held if delay else new
    slots, position = delay + 1, memory["position"]
    newest = (position - 1) % slots
    last = lax.dynamic_index_in_dim(held, newest, 0, keepdims=False)
    new = keep(scale.accumulate(last.astype(sizes.dtype), sizes), last, step)
    # A step that does not count writes what stands there already. Written before it is read, with
    # a slot to spare: the buffer is updated in place in a jitted loop and in a scan alike.
    counts = jnp.all(step.finite)
    place = jnp.where(counts, position, newest)
    following = jnp.where(counts, (position + 1) % slots, position)
    held = lax.dynamic_update_index_in_dim(held, new, place, 0)
    divisor = lax.dynamic_index_in_dim(held, following, 0, keepdims=False)
    return {"scales": held, "position": following}, divisor


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
        return {"momentum": zeros_like(leaf), "scales": _scales_like(leaf, 0.0)}

    def update(gradient: Array, memory: Memory, step: Step) -> tuple[Array, Memory]:
        momentum = averaged(gradient, memory["momentum"], b1, step)
        sizes = jnp.abs(gradient)
        held = memory["scales"].astype(sizes.dtype)
        scale = keep(power_mean(held, sizes, b2, alpha), memory["scales"], step)
        value = momentum.astype(gradient.dtype)
        ratio = scale.astype(sizes.dtype) / (jnp.abs(value) + jnp.asarray(eps, sizes.dtype))
        factor = jnp.where(step.finite, jnp.minimum(ratio, 1), step.fill)
        return value * factor, {"momentum": momentum, "scales": scale}

    return guarded(rule=Rule(init, update), nonfinite=nonfinite, axis_name=axis_name)


def _scales_like(leaf: Any, value: Scalar) -> Array:
    """One positive number for each entry of a leaf, sharded as it is."""
    dtype = accumulation_dtype([jnp.result_type(leaf)])
    return jnp.full_like(leaf, value, dtype=dtype)
