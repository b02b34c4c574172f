"""The similar triangles method on clipped stochastic gradients."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax

from clipax import _validate, norms
from clipax._leaves import wide_dtype
from clipax._typing import Array, AxisName, NonFinite, Scalar
from clipax.thresholds import Context, Threshold
from clipax.transforms._entries import Memory, Rule, Step, keep
from clipax.transforms._guarded import guarded

__all__ = ["similar_triangles"]


def similar_triangles(
    smoothness: Scalar,
    a: Scalar,
    clip_constant: Scalar,
    *,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """The step from one point at which the gradient is wanted to the next.

    Steps that are not finite do not count: the weights are those of the steps that did.
    """
    _validate.positive("smoothness", smoothness)
    _validate.positive("a", a)
    _validate.threshold("clip_constant", clip_constant)

    def step_size(steps: Array, dtype: Any) -> Array:
        """`alpha_(k+1) = (k + 2)/(2 a L)`."""
        scale = 1 / (2 * jnp.asarray(a, dtype) * jnp.asarray(smoothness, dtype))
        return (steps.astype(dtype) + 2) * scale

    def threshold(norms: Array, steps: Array, context: Context) -> tuple[Array, Array]:
        limit = jnp.asarray(clip_constant, norms.dtype) / step_size(steps, norms.dtype)
        return limit, steps + 1

    def init(leaf: Any) -> Memory:
        # In float32 or better: a step of the sequence z may be far below one part in 256.
        dtype = wide_dtype(jnp.result_type(leaf), jnp.float32)
        return {name: jnp.array(leaf, dtype, copy=True) for name in ("y", "z")}

    def update(gradient: Array, memory: Memory, step: Step) -> tuple[Array, Memory]:
        assert step.steps is not None
        assert step.param is not None
        dtype, wide = step.factor.dtype, gradient.dtype
        now, later = (_weight(step.steps + ahead, dtype).astype(wide) for ahead in (0, 1))
        y, z = (memory[name].astype(wide) for name in ("y", "z"))
        new_z = keep(z - gradient * (step.factor * step_size(step.steps, dtype)), memory["z"], step)
        z = new_z.astype(wide)
        new_y = keep((1 - now) * y + now * z, memory["y"], step)
        following = (1 - later) * new_y.astype(wide) + later * z
        move = following - step.param.astype(wide)
        return jnp.where(step.finite, move, step.fill), {"y": new_y, "z": new_z}

    source = Threshold(lambda shape: jnp.zeros(shape, jnp.int32), threshold)
    rule = Rule(init, update, needs_params=True)
    return guarded(norms.clip(source), rule=rule, nonfinite=nonfinite, axis_name=axis_name)


def _weight(steps: Array, dtype: Any) -> Array:
    """`alpha_(k+1) / A_(k+1)`; the constants cancel, as `A_k = k (k + 3)/(4 a L)`."""
    k = steps.astype(dtype)
    return 2 * (k + 2) / ((k + 1) * (k + 4))
