"""Adam on gradients whose spikes are cut, and whose norms are evened out, tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from clipax import _validate, scopes
from clipax._leaves import accumulation_dtype, named_leaves, narrow, replaced, wide_dtype
from clipax._typing import Array, AxisName, NonFinite, Norms, Params, Scalar, Updates
from clipax.measure import Derived, block_sizes, magnitudes
from clipax.norms import Decision, NormTransformation
from clipax.norms._scales import hypot
from clipax.thresholds import Context
from clipax.transforms._blocks import groups, states
from clipax.transforms._deciding import Deciders, Measured, decide
from clipax.transforms._entries import apply, remembered
from clipax.transforms._guarded import (
    ScaleByNormState,
    initial,
    measured_in,
    own_params,
    recorded,
)
from clipax.transforms._moments import Moments, adam, share
from clipax.transforms._stable_adam import steps_of

__all__ = ["PeakState", "TypicalNormState", "scale_by_stable_spam"]


class PeakState(NamedTuple):
    """State of the spike clip; arrays of the norms' shape.

    Attributes:
      steps: Number of steps that counted, int32.
      peak: Average of the largest entries, with bias correction: the threshold.
    """

    steps: Array
    peak: Array


class TypicalNormState(NamedTuple):
    """State of the normalisation; arrays of the norms' shape.

    Attributes:
      steps: Number of steps that counted, int32.
      mean: Average of the norms, with bias correction.
      scale: Root of the average of their squares, with bias correction.
    """

    steps: Array
    mean: Array
    scale: Array


def scale_by_stable_spam(
    *,
    b1: Scalar,
    b2: Scalar,
    eps: Scalar,
    peak_decay: Scalar,
    norm_decay: Scalar,
    square_decay: Scalar,
    reset: int | None,
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Adam's direction on cut and normalised gradients, then the weight decay.

    The telemetry is of the spike clip: the largest entry of each leaf in place of its norm, and the
    threshold on it.
    """
    moments = Moments(b1, b2, eps)
    every = None if reset is None else _validate.index("reset", reset, minimum=1)
    if weight_decay is not None:
        _validate.non_negative("weight_decay", weight_decay)
    _validate.one_of("nonfinite", nonfinite, ("zero", "propagate"))
    scope = scopes.resolve("leaf")
    fill = 0.0 if nonfinite == "zero" else jnp.nan
    rule = adam(moments, reset=every, weight_decay=weight_decay)
    spikes, even = _spikes(peak_decay), _even(norm_decay, square_decay, eps)
    first, second = Deciders.of(spikes), Deciders.of(even)

    def init(params: Params) -> ScaleByNormState:
        leaves, _ = named_leaves(params, scope)
        dtype = accumulation_dtype([leaf.value.dtype for leaf in leaves])
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(sorted(x.path for x in leaves), ())
        return ScaleByNormState(
            **initial(shapes, excluded=False, collapse=False, dtype=dtype),
            before=states(spikes, shapes, collapse=False, dtype=dtype),
            after=states(even, shapes, collapse=False, dtype=dtype),
            total=(),
            memory=remembered(rule, params),
        )

    def update(
        updates: Updates, state: ScaleByNormState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, ScaleByNormState]:
        leaves, structure = named_leaves(updates, scope)
        wanted = params if rule.needs_params or axis_name is not None else None
        own = own_params(leaves, wanted, required=rule.needs_params)
        dtype = state.grad_norm.dtype
        sizes = block_sizes(leaves, axis_name=axis_name)

        def decided(on: Deciders, measured: Norms, old: Any) -> tuple[Any, ...]:
            found = groups(list(state.labels), old, measured, collapse=False)
            values = Measured(measured, {}, sizes)
            now = state._replace(before=old)
            return found, *decide(on, found, values, now, extra)

        wide = accumulation_dtype([dtype, *(leaf.value.dtype for leaf in leaves)])
        largest = magnitudes(leaves, wide, "max", axis_name=axis_name)
        peaks = {path: peak.astype(dtype) for path, peak in largest.items()}
        found, plans, decisions, _ = decided(first, peaks, state.before)
        thresholds = {
            path: threshold
            for group, decision in zip(found, decisions, strict=True)
            for path, threshold in group.unstack(decision.threshold)
        }
        limits = [Decision(plans[leaf.path].factor, thresholds[leaf.path]) for leaf in leaves]
        sources = _Sources([leaf.value for leaf in leaves], limits)
        clipped = replaced(leaves, _clipped(sources))
        lengths = measured_in(dtype, clipped, axis_name, own, derived=Derived(_clipped, sources))
        # A norm may be infinite of finite entries: such a step counts for neither of the two.
        known = {path: jnp.isfinite(peaks[path]) & jnp.isfinite(n) for path, n in lengths.items()}
        lengths = {path: jnp.where(known[path], n, jnp.nan) for path, n in lengths.items()}
        peaks = {path: jnp.where(known[path], n, jnp.nan) for path, n in peaks.items()}
        found, _, decisions, fields = decided(first, peaks, state.before)
        _, plans, _, later = decided(second, lengths, state.after)
        fields |= {"after": later["before"]} | recorded(state, found, decisions)
        # The barrier keeps XLA from writing out what measuring and scaling have in common.
        values = [lax.optimization_barrier(leaf.value) for leaf in leaves]
        scaled, memory = apply(
            rule,
            replaced(leaves, _clipped(sources._replace(gradients=values))),
            plans,
            own,
            state.memory,
            weight_decay=None,
            fill=fill,
            count=state.count,
            steps=steps_of(state, leaves),
        )
        pairs = zip(scaled, leaves, strict=True)
        scaled = [narrow(value, leaf.value.dtype) for value, leaf in pairs]
        return jax.tree.unflatten(structure, scaled), ScaleByNormState(**fields, memory=memory)

    return optax.GradientTransformationExtraArgs(init, update)


class _Sources(NamedTuple):
    """What the gradients without spikes are computed from."""

    gradients: Sequence[Array]
    limits: Sequence[Decision]


def _clipped(sources: _Sources) -> Sequence[Array]:
    """The gradients, entries above the threshold times the factor; in the type to compute in."""
    clipped = []
    for gradient, (factor, threshold) in zip(*sources, strict=True):
        wide = gradient.astype(wide_dtype(gradient.dtype, threshold.dtype))
        clipped.append(jnp.where(jnp.abs(wide) > threshold, wide * factor, wide))
    return clipped


def _spikes(decay: Scalar) -> NormTransformation:
    """The threshold of the entries, and what makes the largest of them as large as that."""
    _validate.open_unit("peak_decay", decay)

    def init(shape: tuple[int, ...]) -> PeakState:
        return PeakState(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, float))

    def update(peaks: Array, state: PeakState, context: Context) -> tuple[Decision, PeakState]:
        weight = share(decay, state.steps, peaks.dtype)
        # Of equal numbers the average is that number, to the last bit.
        peak = state.peak + weight * (peaks - state.peak)
        above = peaks > peak
        factor = jnp.where(above, peak / jnp.where(above, peaks, 1), 1)
        return Decision(factor, peak), PeakState(optax.safe_increment(state.steps), peak)

    return NormTransformation(init, update)


def _even(decay: Scalar, square_decay: Scalar, eps: Scalar) -> NormTransformation:
    """The norm over the root of its mean square, both averages, in place of the norm."""
    _validate.open_unit("norm_decay", decay)
    _validate.open_unit("square_decay", square_decay)

    def init(shape: tuple[int, ...]) -> TypicalNormState:
        zeros = (jnp.zeros(shape, float) for _ in range(2))
        return TypicalNormState(jnp.zeros(shape, jnp.int32), *zeros)

    def update(
        norms: Array, state: TypicalNormState, context: Context
    ) -> tuple[Decision, TypicalNormState]:
        dtype = norms.dtype
        weight = share(decay, state.steps, dtype)
        mean = state.mean + weight * (norms - state.mean)
        weight = share(square_decay, state.steps, dtype)
        scale = hypot(jnp.sqrt(jnp.maximum(1 - weight, 0)) * state.scale, jnp.sqrt(weight) * norms)
        # Opaque, or XLA turns the two divisions into one by a product, which overflows.
        size = lax.optimization_barrier(mean / (scale + jnp.asarray(eps, dtype)))
        # Of a gradient that is zero there is no direction.
        zero = norms < jnp.finfo(dtype).smallest_normal
        factor = jnp.where(zero, 0, size / jnp.where(zero, 1, norms))
        nothing = jnp.full_like(norms, jnp.inf)
        steps = optax.safe_increment(state.steps)
        return Decision(factor, nothing), TypicalNormState(steps, mean, scale)

    return NormTransformation(init, update)
