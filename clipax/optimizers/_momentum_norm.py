"""Momentum that is scaled by a function of its own norm, alone or mixed with the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from clipax import _validate
from clipax._export import exportable
from clipax._typing import Array, AxisName, NonFinite, Params, Scalar, Updates
from clipax.engine import (
    BlockFactors,
    EntryContext,
    EntryRule,
    Memory,
    NormRules,
    ScaleByNormState,
    Spec,
    Step,
    average,
    forget,
    hide,
    make_transformation,
    wide_zeros_like,
)
from clipax.measure import Derived, index_by_path, wide_dtype
from clipax.norms import NormRule

__all__ = [
    "MomentumState",
    "average_gradients",
    "begin_momentum",
    "init_momentum",
    "scale_by_momentum_norm",
]


@exportable
class MomentumState(NamedTuple):
    """State of momentum that is measured beside the gradient.

    Attributes:
      of_gradient: Telemetry and memory of the gradient's norm.
      of_momentum: Those of the momentum's norm, and the momentum itself.
    """

    of_gradient: ScaleByNormState
    of_momentum: ScaleByNormState


class _Sources(NamedTuple):
    """The arrays from which gradients with their weight decay are computed."""

    gradients: Sequence[Array]
    params: Sequence[Array] | None
    weight: Array | None


def scale_by_momentum_norm(
    response: NormRule,
    *,
    decay: Scalar,
    before: NormRule | None = None,
    nu: Scalar | None = None,
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Compute `f(|m|) m`, or with `nu` the mixture `nu f(|m|) m + (1 - nu) f(|g|) g`.

    The momentum is measured after the gradient, as it is stored: measured together, XLA for CPU
    reads the gradient once more and writes out two float32 copies of a bfloat16 tree.

    Args:
      response: Decides on the factor of the momentum; in a mixture also on that of the gradient.
      decay: Decay rate of the momentum, in [0, 1), from zero and without bias correction.
      before: Decides on the factor of the gradient in front of the momentum. Not with `nu`.
      nu: Share of the momentum, in [0, 1]; None for the momentum alone.
      weight_decay: Adds this multiple of the parameters to the gradient, before all else.
      nonfinite: As everywhere.
      axis_name: As everywhere.
    """
    _validate.open_unit("decay", decay)
    if nu is not None:
        _validate.within("nu", nu, 0, 1)
    if weight_decay is not None:
        _validate.non_negative("weight_decay", weight_decay)
    spec = Spec.of("global", nonfinite, axis_name)
    gradient_rules = NormRules.of(before if nu is None else response)
    momentum_rules = NormRules.of(response)
    averaging = average_gradients(decay, clipped=before is not None)
    mixing = _scale_and_mix(nu)
    needs_params = (
        gradient_rules.needs_params or momentum_rules.needs_params or weight_decay is not None
    )

    def init(params: Params) -> MomentumState:
        return init_momentum(spec, gradient_rules, momentum_rules, averaging, params)

    def update(
        updates: Updates, state: MomentumState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, MomentumState]:
        first, second = begin_momentum(spec, updates, state, params, extra, needs_params)
        weight = None if weight_decay is None else jnp.asarray(weight_decay, first.dtype)
        decaying = None if weight is None else first.params
        sources = _Sources([leaf.value for leaf in first.leaves], decaying, weight)
        length = first.norms(_add_decay(sources), Derived(_add_decay, sources))
        gradient = first.decide(gradient_rules, length)
        hidden = _add_decay(jax.tree.map(lax.optimization_barrier, sources))
        second.apply(averaging, gradient, values=hidden)
        stored = index_by_path(second.state.memory["momentum"])
        length = second.norms([stored[leaf.path] for leaf in second.leaves])
        # A step counts for both or for neither.
        counts = {label: block.finite for label, block in gradient.items()}
        momentum = second.decide(momentum_rules, forget(length.norms, counts))
        factors = {
            label: BlockFactors(
                gradient[label].gradient_factor,
                block.gradient_factor,
                gradient[label].finite & block.finite,
            )
            for label, block in momentum.items()
        }
        scaled = second.apply(mixing, factors, values=hidden, saturate=False)
        updates, of_momentum = second.finish(scaled)
        return updates, MomentumState(first.state, of_momentum)

    return make_transformation(init, update, MomentumState)


def init_momentum(
    spec: Spec,
    gradient_rules: NormRules,
    momentum_rules: NormRules,
    averaging: EntryRule,
    params: Params,
) -> MomentumState:
    """Make the state before the first step."""
    return MomentumState(
        spec.init(gradient_rules, params), spec.init(momentum_rules, params, averaging)
    )


def begin_momentum(
    spec: Spec,
    updates: Updates,
    state: MomentumState,
    params: Params | None,
    extra: Any,
    needs_params: bool = False,
) -> tuple[Step, Step]:
    """Begin two rounds on the same leaves, for the gradient and for the momentum."""
    first = Step.begin(spec, updates, state.of_gradient, params, extra, needs_params=needs_params)
    return first, first.with_state(state.of_momentum)


def average_gradients(decay: Scalar, *, clipped: bool = False) -> EntryRule:
    """Make the rule that averages gradients, or clipped ones, in float32 or better."""

    def update(gradient: Array, memory: Memory, context: EntryContext) -> tuple[Array, Memory]:
        factor = context.gradient_factor if clipped else 1
        new = average(gradient, memory["momentum"], decay, context, factor)
        return new, {"momentum": new}

    return EntryRule(lambda leaf: {"momentum": wide_zeros_like(leaf)}, update)


def _scale_and_mix(nu: Scalar | None) -> EntryRule:
    """Make the rule that scales the momentum, and mixes it with the scaled gradient by `nu`."""

    def update(gradient: Array, memory: Memory, context: EntryContext) -> tuple[Array, Memory]:
        # The stored momentum is measured, then scaled: the same two reads as those of a gradient.
        [momentum] = hide([memory["momentum"]])
        momentum = momentum.astype(gradient.dtype)
        if nu is None:
            return momentum * context.update_factor, memory
        share = jnp.asarray(nu, context.update_factor.dtype)
        mixed = momentum * (context.update_factor * share)
        return mixed + gradient * (context.gradient_factor * (1 - share)), memory

    return EntryRule(lambda leaf: {"momentum": wide_zeros_like(leaf)}, update)


def _add_decay(sources: _Sources) -> Sequence[Array]:
    """Add weight decay to the gradients, in the dtype in which to compute; else leave them."""
    gradients, params, weight = sources
    if weight is None or params is None:
        return gradients
    wide = [value.astype(wide_dtype(value.dtype, weight.dtype)) for value in gradients]
    return [g + p.astype(g.dtype) * weight for g, p in zip(wide, params, strict=True)]
