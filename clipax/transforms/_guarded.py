"""The machinery of `scale_by_norm`: measure, decide, guard, apply, record.

The one place of the package that guards against non-finite gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from clipax import _validate, norms, scopes
from clipax._typing import Array, AxisName, NonFinite, Norms, Params, Scalar, Updates
from clipax.measure import (
    Derived,
    Leaf,
    accumulation_dtype,
    by_path,
    measure,
    named_leaves,
    narrow,
    replaced,
    row_of,
)
from clipax.norms import Decision, NormTransformation
from clipax.norms._base import handed_on
from clipax.scopes import Scope
from clipax.thresholds import Context
from clipax.transforms import _telemetry
from clipax.transforms._entries import Plan, Rule, apply, plain, remembered

__all__ = [
    "Decided",
    "ScaleByNormState",
    "decide",
    "guarded",
    "initial",
    "measured_in",
    "own_params",
    "recorded",
]


class ScaleByNormState(NamedTuple):
    """State of `scale_by_norm` and of all that is made of it; every array is finite at all times.

    The telemetry fields are scalars for the scope `"global"`, else arrays with one entry for each
    block, in the order of `names`. `clipax.metrics` reads them out of any optimizer state.

    Attributes:
      count: Number of steps.
      grad_norm: Norm of the last finite gradient (the largest of a block's units).
      threshold: Its threshold (the smallest); the largest float where nothing clips.
      clip_factor: The factor that `before` decided on (the smallest).
      clipped_count: Number of steps with a norm above the threshold (shares of units add up).
      nonfinite_count: Number of steps with a norm that was not finite; a last entry, if there is
        one more, counts for all excluded leaves together.
      is_finite: Whether the last step's norms were finite, with the same last entry.
      names: The blocks' labels as bytes (`clipax.block_names` reads them); None for `"global"`.
      before: State of `before`, by label.
      after: State of `after`, by label.
      memory: What is remembered for each entry: a dictionary of trees like the parameters, by name
        (`"momentum"`: the moving average of the scaled gradients, with `b1`); empty without.
    """

    count: Array  # type: ignore[assignment]  # hides tuple.count, as optax's states do
    grad_norm: Array
    threshold: Array
    clip_factor: Array
    clipped_count: Array
    nonfinite_count: Array
    is_finite: Array
    names: Array | None
    before: Any
    after: Any
    memory: Any


def guarded(
    before: NormTransformation | None = None,
    *,
    after: NormTransformation | None = None,
    rule: Rule | None = None,
    weight_decay: Scalar | None = None,
    scope: str | Scope = "global",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """`scale_by_norm`, with any rule for the entries in place of the momentum."""
    before = norms.identity() if before is None else before
    after = norms.identity() if after is None else after
    rule = plain() if rule is None else rule
    for name, part in (("before", before), ("after", after)):
        if not isinstance(part, NormTransformation):
            raise TypeError(f"`{name}` must be made by `clipax.norms`, got {part!r}.")
    if weight_decay is not None:
        _validate.non_negative("weight_decay", weight_decay)
    _validate.one_of("nonfinite", nonfinite, ("zero", "propagate"))
    scope = scopes.resolve(scope)
    needs_norms = before.needs_params or after.needs_params
    fill = 0.0 if nonfinite == "zero" else jnp.nan

    def init(params: Params) -> ScaleByNormState:
        leaves, _ = named_leaves(params, scope)
        dtype = accumulation_dtype([leaf.value.dtype for leaf in leaves])
        collapse = scopes.is_global(scope)
        shapes: dict[str, tuple[int, ...]] = {scopes.GLOBAL: ()} if collapse else {}
        for leaf in leaves:
            if not leaf.block.excluded:
                kept = tuple(leaf.value.shape[axis] for axis in leaf.block.keep)
                shapes[leaf.block.label] = kept
        # Sorted, as the keys of a dictionary are once it has passed through a transformation.
        shapes = dict(sorted(shapes.items()))
        excluded = any(leaf.block.excluded for leaf in leaves)
        parts = dict.fromkeys(shapes, (before, after))
        fields = initial(parts, shapes, excluded=excluded, collapse=collapse, dtype=dtype)
        return ScaleByNormState(**fields, memory=remembered(rule, params))

    def update(
        updates: Updates, state: ScaleByNormState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, ScaleByNormState]:
        leaves, structure = named_leaves(updates, scope)
        needed = needs_norms or rule.needs_params or weight_decay is not None
        # Not looked at where nothing depends on them: any structure will do then.
        wanted = params if needed or axis_name is not None else None
        own = own_params(leaves, wanted, required=needed)
        dtype = state.grad_norm.dtype
        measured = measured_in(dtype, leaves, axis_name, own)
        sizes = (
            measured_in(dtype, replaced(leaves, own or ()), axis_name, None) if needs_norms else {}
        )

        excluded = {leaf.block.label for leaf in leaves if leaf.block.excluded}
        decided = {
            label: decide(before, after, state, label, block_norms, sizes.get(label), extra)
            for label, block_norms in measured.items()
            if label not in excluded
        }
        plans = {label: one.plan for label, one in decided.items()} | {
            label: Plan(jnp.ones_like(norm), jnp.ones_like(norm), jnp.isfinite(norm))
            for label, norm in measured.items()
            if label in excluded
        }
        # The barrier keeps XLA from writing out what measuring and scaling have in common: the
        # converted copy of a bfloat16 tree. Leaf by leaf, so that a replicated one stays so.
        values = [lax.optimization_barrier(leaf.value) for leaf in leaves]
        scaled, memory = apply(
            rule,
            replaced(leaves, values),
            plans,
            own,
            state.memory,
            weight_decay=weight_decay,
            fill=fill,
            count=state.count,
            steps=state.count - state.nonfinite_count if scopes.is_global(scope) else None,
        )
        fields = recorded(state, measured, decided)
        return jax.tree.unflatten(structure, scaled), ScaleByNormState(**fields, memory=memory)

    return optax.GradientTransformationExtraArgs(init, update)


def initial(
    parts: Mapping[str, tuple[NormTransformation, NormTransformation]],
    shapes: dict[str, tuple[int, ...]],
    *,
    excluded: bool,
    collapse: bool,
    dtype: Any,
) -> dict[str, Any]:
    """All fields of the state but `memory`.

    Args:
      parts: What decides before and after the rule, by label.
      shapes: The shapes of the labels' norms, sorted by label.
      excluded: As for the telemetry.
      collapse: As for the telemetry.
      dtype: Type of the norms.
    """

    def states(place: int) -> dict[str, Any]:
        return {label: _cast(parts[label][place].init(shapes[label]), dtype) for label in shapes}

    return {
        "count": jnp.zeros((), jnp.int32),
        **_telemetry.init(shapes, excluded=excluded, collapse=collapse, dtype=dtype),
        "before": states(0),
        "after": states(1),
    }


class Decided(NamedTuple):
    """What was decided for one label.

    Attributes:
      decision: What `before` decided.
      plan: What to do with the blocks.
      before: The new state of `before`.
      after: The new state of `after`.
    """

    decision: Decision
    plan: Plan
    before: Any
    after: Any


def decide(
    before: NormTransformation,
    after: NormTransformation,
    state: ScaleByNormState,
    label: str,
    block_norms: Array,
    sizes: Array | None,
    extra: Mapping[str, Any],
) -> Decided:
    """Decides on the norms of one label, and guards what is remembered of them.

    Args:
      before: Decides on the norms.
      after: Decides on the norms that `before` leaves.
      state: The state so far.
      label: The label.
      block_norms: Its norms.
      sizes: The norms of its parameters, where they are needed.
      extra: The extra arguments of `update`.
    """
    finite = jnp.isfinite(block_norms)
    # A block that is not finite is decided on as if it were zero, and then forgotten.
    safe = jnp.where(finite, block_norms, 0)
    context = Context(state.count, sizes, extra.get("example_norms"))
    old_before, old_after = row_of(state.before, label), state.after[label]
    first, new_before = before.update(safe, old_before, context)
    second, new_after = after.update(handed_on(first, safe), old_after, context)
    return Decided(
        first,
        Plan(first.factor, second.factor, finite),
        _keep(finite, new_before, old_before),
        _keep(finite, new_after, old_after),
    )


def recorded(
    state: ScaleByNormState, measured: Norms, decided: Mapping[str, Decided]
) -> dict[str, Any]:
    """All new fields of the state but `memory`; labels that were not decided on are excluded."""
    decisions = {label: one.decision for label, one in decided.items()}
    return {
        "count": optax.safe_increment(state.count),
        **_telemetry.record(state, sorted(state.before), measured, decisions),
        "names": state.names,
        "before": state.before | {label: one.before for label, one in decided.items()},
        "after": state.after | {label: one.after for label, one in decided.items()},
    }


def measured_in(
    dtype: Any,
    leaves: Sequence[Leaf],
    axis_name: AxisName,
    params: Sequence[Array] | None,
    sums: Norms | None = None,
    derived: Derived | None = None,
) -> Norms:
    """The norms of the leaves, summed in their own precision or better, in the type `dtype`."""
    wide = accumulation_dtype([dtype, *(leaf.value.dtype for leaf in leaves)])
    measured = measure(leaves, wide, axis_name=axis_name, params=params, sums=sums, derived=derived)
    return {label: values.astype(dtype) for label, values in measured.items()}


def own_params(
    leaves: Sequence[Leaf], params: Params | None, *, required: bool
) -> list[Array] | None:
    """The parameters that belong to the leaves, matched by path."""
    if params is None:
        if required and leaves:
            raise ValueError(
                "`params` must be given: this transformation uses the parameters; call "
                "`update(updates, state, params)`."
            )
        return None
    found = by_path(params)
    if missing := [leaf.path for leaf in leaves if leaf.path not in found]:
        raise ValueError(
            f"`params` must hold every leaf of the updates, {missing[0]!r} is missing."
        )
    return [found[leaf.path] for leaf in leaves]


def _keep(finite: Array, new: Any, old: Any) -> Any:
    """The new rows where a block's norm is finite, else the old ones."""

    def choose(new: Array, old: Array) -> Array:
        lead = finite.reshape(finite.shape + (1,) * (old.ndim - finite.ndim))
        return jnp.where(lead, new.astype(old.dtype), old)

    return jax.tree.map(choose, new, old)


def _cast(state: Any, dtype: Any) -> Any:
    """Floating-point arrays of a state in the dtype of the norms."""

    def cast(value: Any) -> Array:
        value = jnp.asarray(value)
        if not jnp.issubdtype(value.dtype, jnp.floating):
            return value
        return narrow(value, dtype)

    return jax.tree.map(cast, state)
