"""Steps along a linear minimisation oracle of the momentum, as long as its dual norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from clipax import _validate, norms, scopes
from clipax._leaves import (
    Leaf,
    accumulation_dtype,
    by_path,
    named_leaves,
    narrow,
    replaced,
    row_of,
    spread,
    wide_dtype,
)
from clipax._typing import Array, AxisName, NonFinite, Params, Scalar, ScalarOrSchedule, Updates
from clipax.measure import block_sizes, magnitudes
from clipax.norms import Decision
from clipax.scopes import Block, Scope
from clipax.thresholds import Threshold
from clipax.transforms._blocks import BlockStates, Group, state_of
from clipax.transforms._deciding import Deciders, Measured, decide
from clipax.transforms._entries import Plan, Step, averaged, wide_zeros_like
from clipax.transforms._guarded import (
    ScaleByNormState,
    initial,
    measured_in,
    own_params,
    recorded,
)
from clipax.transforms._matrices import is_matrix, polar_factor, refuse_parts

__all__ = ["scale_by_lmo"]

# As for momentum that is scaled by its Euclidean norm, so that `clipax.metrics` knows the rows.
_GRADIENT, _MOMENTUM = "gradient", "averaged"


def scale_by_lmo(
    radius: ScalarOrSchedule | Threshold,
    *,
    norm: str,
    decay: Scalar,
    scope: str | Scope = "leaf",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """`min(rho, |m|_*) d`, with `d` the direction of unit norm along which the momentum grows most.

    Args:
      radius: Cuts the dual norm of the momentum.
      norm: `"max"` or `"spectral"`; for the Euclidean one there is `scale_by_momentum_norm`.
      decay: Decay rate of the momentum, in [0, 1), from zero and without bias correction.
      scope: What is one matrix.
      nonfinite: As everywhere.
      axis_name: As everywhere.
    """
    _validate.open_unit("decay", decay)
    _validate.one_of("nonfinite", nonfinite, ("zero", "propagate"))
    scope = scopes.resolve(scope)
    fill = 0.0 if nonfinite == "zero" else jnp.nan
    parts = {_GRADIENT: norms.identity(), _MOMENTUM: norms.clip(radius)}
    deciders = {label: Deciders.of(part) for label, part in parts.items()}
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(sorted(parts), ())

    def init(params: Params) -> ScaleByNormState:
        leaves, _ = named_leaves(params, scope)
        _refuse(leaves, norm, ())
        dtype = accumulation_dtype([leaf.value.dtype for leaf in leaves])
        return ScaleByNormState(
            **initial(shapes, excluded=False, collapse=False, dtype=dtype),
            # Each by itself, as it has a rule of its own.
            before=BlockStates((), {label: state_of(parts[label], (), dtype) for label in shapes}),
            after=BlockStates((), dict.fromkeys(shapes, ())),
            total=(),
            memory={"momentum": jax.tree.map(wide_zeros_like, params)},
        )

    def update(
        updates: Updates, state: ScaleByNormState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, ScaleByNormState]:
        leaves, structure = named_leaves(updates, scope)
        _refuse(leaves, norm, axis_name)
        own = own_params(leaves, None if axis_name is None else params, required=False)
        dtype = state.grad_norm.dtype
        none = jnp.zeros((), dtype)  # of a tree without leaves
        entries = sum(block_sizes(_under(_GRADIENT, leaves), axis_name=axis_name).values())
        found: list[Group] = []
        decisions: list[Decision] = []

        def settle(label: str, size: Array) -> tuple[Plan, Decision]:
            """Decides on one of the two norms."""
            nonlocal state
            group = Group((label,), size, None, unit=True)
            values = Measured({label: size}, {}, {label: entries})
            plans, [decision], fields = decide(deciders[label], [group], values, state, extra)
            state = state._replace(**fields)
            found.append(group)
            decisions.append(decision)
            return plans[label], decision

        size = measured_in(dtype, _under(_GRADIENT, leaves), axis_name, own).get(_GRADIENT, none)
        plan, _ = settle(_GRADIENT, size)
        finite = plan.finite
        step = Step(plan.factor, plan.divisor, finite, fill, state.count, None, None)
        rows = by_path(state.memory["momentum"])
        old = [row_of(rows, leaf.path) for leaf in leaves]
        new = [
            averaged(gradient, average, decay, step)
            for gradient, average in zip(_widened(leaves, dtype), old, strict=True)
        ]
        momentum = replaced(leaves, _widened(replaced(leaves, new), dtype))
        if norm == "max":
            directions, parts_of_dual = [jnp.sign(leaf.value) for leaf in momentum], momentum
        else:
            directions, parts_of_dual = _spectral(momentum, dtype, axis_name)
        # Norms of matrices and vectors are those of all shards already.
        over = axis_name if norm == "max" else None
        sums = magnitudes(_under(_MOMENTUM, parts_of_dual), dtype, "sum", axis_name=over)
        # Entries are finite: a sum that overflows is the largest float.
        dual = jnp.minimum(sums.get(_MOMENTUM, none), jnp.finfo(dtype).max)
        # What there is no step for is recorded of both.
        dual = jnp.where(finite, dual, jnp.nan)
        _, decision = settle(_MOMENTUM, dual)
        # Not the factor times the norm: of a norm of 1e38 that would be zero.
        length = jnp.where(finite, jnp.minimum(dual, decision.threshold), fill)
        scaled = [
            narrow(direction * length, leaf.value.dtype)
            for direction, leaf in zip(directions, leaves, strict=True)
        ]
        rows |= {leaf.path: average for leaf, average in zip(leaves, new, strict=True)}
        kept = jax.tree.unflatten(jax.tree.structure(state.memory["momentum"]), list(rows.values()))
        state = state._replace(**recorded(state, found, decisions), memory={"momentum": kept})
        return jax.tree.unflatten(structure, scaled), state

    return optax.GradientTransformationExtraArgs(init, update)


def _refuse(leaves: Sequence[Leaf], norm: str, axis_name: AxisName) -> None:
    if norm != "spectral":
        return
    refuse_parts(leaves, axis_name)
    for leaf in leaves:
        if leaf.block.excluded:
            raise ValueError(
                f"`scope` must exclude no leaf, {leaf.path!r} is excluded; give it an optimizer of "
                f"its own with `optax.partition`."
            )


def _widened(leaves: Sequence[Leaf], dtype: Any) -> list[Array]:
    """The leaves' values in the type in which to compute with numbers of the type `dtype`."""
    return [leaf.value.astype(wide_dtype(leaf.value.dtype, dtype)) for leaf in leaves]


def _under(label: str, leaves: Sequence[Leaf]) -> list[Leaf]:
    """The leaves, measured under one label."""
    return [leaf._replace(block=Block(label)) for leaf in leaves]


def _spectral(
    leaves: Sequence[Leaf], dtype: Any, axis_name: AxisName
) -> tuple[list[Array], list[Leaf]]:
    """Directions of unit spectral norm, and what the dual norm is the sum of.

    The norm of a tree is the largest of its matrices' norms; the dual norm is then a sum, of the
    singular values of all matrices and the Euclidean norms of all vectors.
    """
    sizes = measured_in(dtype, leaves, axis_name, None)
    directions, sums = [], []
    for leaf in leaves:
        size = sizes[leaf.block.label]
        if is_matrix(leaf):
            direction, size = polar_factor(leaf.value, size, leaf.block.keep)
        else:
            inverse = jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0)
            direction = leaf.value * spread(inverse, leaf)
        directions.append(direction)
        sums.append(size)
    return directions, replaced(leaves, sums)
