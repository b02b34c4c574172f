"""The machinery of `scale_by_norm`: measure, decide, guard, apply, record.

The one place of the package that guards against non-finite gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from clipax import _validate, norms, scopes
from clipax._typing import Array, AxisName, NonFinite, Norms, Params, Scalar, Updates
from clipax.engine import _telemetry
from clipax.engine._blocks import Group, groups, state_of, states
from clipax.engine._decide import Deciders, Measured, decide
from clipax.engine._entries import Plan, Rule, apply, plain, remembered
from clipax.measure import (
    Derived,
    Leaf,
    accumulation_dtype,
    block_sizes,
    by_path,
    measure_stacked,
    named_leaves,
    replaced,
)
from clipax.norms import Decision, NormRule
from clipax.scopes import Scope

__all__ = [
    "ScaleByNormState",
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
      labels: The blocks' labels as the keys of a dictionary without arrays: names inside `jit`.
      names: The same as bytes (`clipax.block_names` reads them), for checkpoints that keep arrays
        only; None for `"global"`.
      before: State of `before`: `rows` for blocks with one norm, `units` for others, by label.
      after: State of `after`, likewise.
      total: State of `total`.
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
    labels: dict[str, None]
    names: Array | None
    before: Any
    after: Any
    total: Any
    memory: Any


def guarded(
    before: NormRule | None = None,
    *,
    total: NormRule | None = None,
    after: NormRule | None = None,
    rule: Rule | None = None,
    weight_decay: Scalar | None = None,
    scope: str | Scope = "global",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """`scale_by_norm`, with any rule for the entries in place of the momentum."""
    before = norms.identity() if before is None else before
    never_amplifies = rule is None and weight_decay is None
    rule = plain() if rule is None else rule
    for name, part in (("before", before), ("total", total), ("after", after)):
        if name != "before" and part is None:
            continue
        if not isinstance(part, NormRule):
            raise TypeError(f"`{name}` must be made by `clipax.norms`, got {part!r}.")
    if weight_decay is not None:
        _validate.non_negative("weight_decay", weight_decay)
    _validate.one_of("nonfinite", nonfinite, ("zero", "propagate"))
    scope = scopes.resolve(scope)
    collapse = scopes.is_global(scope)
    needs_norms = before.needs_params or (after is not None and after.needs_params)
    if total is not None and total.needs_params:
        raise ValueError(f"`total` must not depend on the parameters, got {total!r}.")
    never_amplifies &= all(part is None or part.never_amplifies for part in (before, total, after))
    fill = 0.0 if nonfinite == "zero" else jnp.nan
    deciders = Deciders.of(before, total, after)

    def init(params: Params) -> ScaleByNormState:
        leaves, _ = named_leaves(params, scope)
        dtype = accumulation_dtype([leaf.value.dtype for leaf in leaves])
        shapes: dict[str, tuple[int, ...]] = {scopes.GLOBAL: ()} if collapse else {}
        for leaf in leaves:
            if not leaf.block.excluded:
                kept = tuple(leaf.value.shape[axis] for axis in leaf.block.keep)
                shapes[leaf.block.label] = kept
        # Sorted, as the keys of a dictionary are once it has passed through a transformation.
        shapes = dict(sorted(shapes.items()))
        excluded = any(leaf.block.excluded for leaf in leaves)
        fields = initial(shapes, excluded=excluded, collapse=collapse, dtype=dtype)
        return ScaleByNormState(
            **fields,
            before=states(before, shapes, collapse=collapse, dtype=dtype),
            after=states(after or norms.identity(), shapes, collapse=collapse, dtype=dtype),
            total=() if total is None else state_of(total, (), dtype),
            memory=remembered(rule, params),
        )

    def update(
        updates: Updates, state: ScaleByNormState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, ScaleByNormState]:
        leaves, structure = named_leaves(updates, scope)
        needed = needs_norms or rule.needs_params or weight_decay is not None
        # Not looked at where nothing depends on them: any structure will do then.
        wanted = params if needed or axis_name is not None else None
        own = own_params(leaves, wanted, required=needed)
        dtype = state.grad_norm.dtype
        measured, stacked = stacked_in(dtype, leaves, axis_name, own)
        sizes: Norms = {}
        if needs_norms:
            # Behind barriers for the same reason as the gradients below: who applies the updates
            # converts the parameters too.
            opaque = [lax.optimization_barrier(param) for param in own or ()]
            sizes = measured_in(dtype, replaced(leaves, opaque), axis_name, None)

        excluded = {leaf.block.label for leaf in leaves if leaf.block.excluded}
        blocks = {label: norm for label, norm in measured.items() if label not in excluded}
        values = Measured(blocks, sizes, block_sizes(leaves, axis_name=axis_name))
        found = groups(list(state.labels), state.before, blocks, stacked, collapse=collapse)
        plans, decisions, fields = decide(deciders, found, values, state, extra)
        for label in measured.keys() - blocks.keys():
            one = jnp.ones_like(measured[label])
            plans[label] = Plan(one, one, jnp.isfinite(measured[label]))
        # The barrier keeps XLA from writing out what measuring and scaling have in common: the
        # converted copy of a bfloat16 tree. Leaf by leaf, so that a replicated one stays so.
        opaque = [lax.optimization_barrier(leaf.value) for leaf in leaves]
        scaled, memory = apply(
            rule,
            replaced(leaves, opaque),
            plans,
            own,
            state.memory,
            weight_decay=weight_decay,
            fill=fill,
            cut_off=not never_amplifies,
            count=state.count,
            steps=state.count - state.nonfinite_count if collapse else None,
        )
        stray = [norm for label, norm in measured.items() if label in excluded]
        fields |= recorded(state, found, decisions, stray)
        new = ScaleByNormState(**fields, memory=memory)
        return jax.tree.unflatten(structure, scaled), new

    return optax.GradientTransformationExtraArgs(init, update)


def initial(
    shapes: dict[str, tuple[int, ...]], *, excluded: bool, collapse: bool, dtype: Any
) -> dict[str, Any]:
    """The fields of the state that every method has; the arguments are those of the telemetry."""
    return {
        "count": jnp.zeros((), jnp.int32),
        "labels": dict.fromkeys(shapes),
        **_telemetry.init(shapes, excluded=excluded, collapse=collapse, dtype=dtype),
    }


def recorded(
    state: ScaleByNormState,
    found: Sequence[Group],
    decisions: Sequence[Decision],
    stray: Sequence[Array] = (),
) -> dict[str, Any]:
    """Those fields after a step; `stray` are the norms of leaves that nothing was decided on."""
    return {
        "count": optax.safe_increment(state.count),
        "labels": state.labels,
        **_telemetry.record(state, list(state.labels), found, decisions, stray),
        "names": state.names,
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
    return stacked_in(dtype, leaves, axis_name, params, sums, derived)[0]


def stacked_in(
    dtype: Any,
    leaves: Sequence[Leaf],
    axis_name: AxisName,
    params: Sequence[Array] | None,
    sums: Norms | None = None,
    derived: Derived | None = None,
) -> tuple[Norms, Array | None]:
    """`measured_in`, and what `measure_stacked` gives besides."""
    wide = accumulation_dtype([dtype, *(leaf.value.dtype for leaf in leaves)])
    measured, stacked = measure_stacked(
        leaves, wide, axis_name=axis_name, params=params, sums=sums, derived=derived
    )
    narrowed = {label: values.astype(dtype) for label, values in measured.items()}
    return narrowed, None if stacked is None else stacked.astype(dtype)


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
