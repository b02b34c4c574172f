"""Adam whose updates are cut, tensor by tensor, where the gradients outgrow their scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from clipax import _validate, norms, scopes
from clipax._typing import Array, AxisName, NonFinite, Norms, Params, Scalar, Updates
from clipax.measure import (
    Derived,
    accumulation_dtype,
    block_sizes,
    by_path,
    named_leaves,
    replaced,
    row_of,
    wide_dtype,
)
from clipax.norms import Decision, NormTransformation
from clipax.thresholds import Context
from clipax.transforms._entries import Plan, apply, remembered
from clipax.transforms._guarded import (
    ScaleByNormState,
    decide,
    initial,
    measured_in,
    own_params,
    recorded,
)
from clipax.transforms._moments import Moments, adam, correction, share

__all__ = ["CountedState", "counted", "scale_by_stable_adam"]


class CountedState(NamedTuple):
    """A state with the number of steps that counted, for each block.

    Attributes:
      steps: The number, int32.
      inner: The state itself.
    """

    steps: Array
    inner: Any


def counted(inner: NormTransformation) -> NormTransformation:
    """The same decisions, the steps counted for each block."""

    def init(shape: tuple[int, ...]) -> CountedState:
        return CountedState(jnp.zeros(shape, jnp.int32), inner.init(shape))

    def update(
        norms: Array, state: CountedState, context: Context
    ) -> tuple[Decision, CountedState]:
        decision, new = inner.update(norms, state.inner, context)
        return decision, CountedState(optax.safe_increment(state.steps), new)

    return inner._replace(init=init, update=update)


class _Sources(NamedTuple):
    """What the ratios of the gradients to their scales are computed from."""

    gradients: Sequence[Array]
    scales: Sequence[Array]
    squares: Sequence[tuple[Array, Array]]
    eps: Array


def scale_by_stable_adam(
    *,
    b1: Scalar,
    b2: Scalar,
    eps: Scalar,
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Adam's direction with weight decay, each leaf divided by `max(1, rms(g/max(s, eps)))`.

    The telemetry is of that root mean square. It is finite if and only if the gradient is: a ratio
    is at most `1/sqrt(1 - b2)`. So the gradient itself is not measured.
    """
    moments = Moments(b1, b2, eps)
    if weight_decay is not None:
        _validate.non_negative("weight_decay", weight_decay)
    _validate.one_of("nonfinite", nonfinite, ("zero", "propagate"))
    scope = scopes.resolve("leaf")
    fill = 0.0 if nonfinite == "zero" else jnp.nan
    rule = adam(moments, weight_decay=weight_decay)
    clip, identity = counted(norms.clip(1.0)), norms.identity()

    def init(params: Params) -> ScaleByNormState:
        leaves, _ = named_leaves(params, scope)
        dtype = accumulation_dtype([leaf.value.dtype for leaf in leaves])
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(sorted(x.path for x in leaves), ())
        parts = dict.fromkeys(shapes, (clip, identity))
        fields = initial(parts, shapes, excluded=False, collapse=False, dtype=dtype)
        return ScaleByNormState(**fields, memory=remembered(rule, params))

    def update(
        updates: Updates, state: ScaleByNormState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, ScaleByNormState]:
        leaves, structure = named_leaves(updates, scope)
        wanted = params if rule.needs_params or axis_name is not None else None
        own = own_params(leaves, wanted, required=rule.needs_params)
        dtype = state.grad_norm.dtype
        steps: Norms = {leaf.path: row_of(state.before, leaf.path).steps for leaf in leaves}
        rows = by_path(state.memory["scales"])
        sources = _Sources(
            [leaf.value for leaf in leaves],
            [row_of(rows, leaf.path) for leaf in leaves],
            [_weights(b2, count, dtype) for count in steps.values()],
            jnp.asarray(eps, dtype),
        )
        ratios = replaced(leaves, _ratios(sources))
        derived = Derived(_ratios, sources)
        lengths = measured_in(dtype, ratios, axis_name, own, derived=derived)
        sizes = block_sizes(leaves, axis_name=axis_name)
        measured = {path: size / max(sizes[path], 1) ** 0.5 for path, size in lengths.items()}
        decided = {
            path: decide(clip, identity, state, path, size, None, extra)
            for path, size in measured.items()
        }
        plans = {
            path: Plan(jnp.ones_like(one.plan.factor), one.plan.factor, one.plan.finite)
            for path, one in decided.items()
        }
        # The barrier keeps XLA from writing out what measuring and scaling have in common.
        values = [lax.optimization_barrier(leaf.value) for leaf in leaves]
        scaled, memory = apply(
            rule,
            replaced(leaves, values),
            plans,
            own,
            state.memory,
            weight_decay=None,
            fill=fill,
            count=state.count,
            steps=steps,
        )
        new_state = ScaleByNormState(**recorded(state, measured, decided), memory=memory)
        return jax.tree.unflatten(structure, scaled), new_state

    return optax.GradientTransformationExtraArgs(init, update)


def _weights(b2: Scalar, steps: Array, dtype: Any) -> tuple[Array, Array]:
    """What the old average, without bias correction, and the new square weigh in that with it."""
    return jnp.asarray(b2, dtype) / correction(b2, steps + 1, dtype), share(b2, steps, dtype)


def _ratios(sources: _Sources) -> Sequence[Array]:
    """The magnitudes of the gradients over their new scales, which are at least `eps`.

    From quotients by the magnitude: no square of it overflows, and XLA for CPU computes all of it
    as it sums, where it would write out each step of a hypotenuse.
    """
    ratios = []
    for gradient, scales, (old, new) in zip(*sources[:3], strict=True):
        sizes = jnp.abs(gradient.astype(wide_dtype(gradient.dtype, sources.eps.dtype)))
        # Of an entry that never was anything but zero the ratio is zero.
        least = jnp.finfo(sizes.dtype).smallest_normal
        held = jnp.maximum(scales.astype(sizes.dtype), least) / sizes
        floor = jnp.square(sources.eps / sizes)
        ratio = 1 / jnp.sqrt(jnp.maximum(old * jnp.square(held) + new, floor))
        # The ratio of an infinite entry is finite, this difference is not.
        ratios.append(ratio + (sizes - sizes))
    return ratios
