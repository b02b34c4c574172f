"""Decisions on the norms of a step's blocks, guarded: what is not finite is forgotten.

Blocks that have one norm each are decided on together, stacked into one vector: thousands of
scalars would cost more than the step itself. Blocks with a norm for each unit stay by themselves,
sharded as their leaves are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from clipax._typing import Array, Norms
from clipax.measure import combined, narrow, row_of
from clipax.norms import Decision, NormTransformation
from clipax.norms._base import handed_on
from clipax.thresholds import Context, Threshold
from clipax.transforms._entries import Plan

__all__ = [
    "BlockStates",
    "Deciders",
    "Group",
    "Measured",
    "decide",
    "groups",
    "state_of",
    "states",
]


class BlockStates(NamedTuple):
    """What a decision remembers of all blocks.

    Attributes:
      rows: State of the blocks that have one norm, stacked in the order of their labels; not
        stacked for the scope `"global"`, which has one.
      units: By label, the states of blocks that have a norm for each unit.
    """

    rows: Any
    units: dict[str, Any]


class Deciders(NamedTuple):
    """What decides.

    Attributes:
      before: Decides on the norms of blocks.
      total: Decides on the norm of all blocks together, as `before` leaves them; or None.
      after: Decides on the norms of blocks that both leave; None for a factor of 1.
      alone: Decides on one norm of a block of which nothing is remembered.
    """

    before: NormTransformation
    total: NormTransformation | None
    after: NormTransformation | None
    alone: Callable[[Array, Array | None, Context], Plan]

    @staticmethod
    def of(
        before: NormTransformation,
        total: NormTransformation | None = None,
        after: NormTransformation | None = None,
    ) -> Deciders:
        """The deciders, with `alone` made of the others."""

        # A function of its own in the program: traced once for all blocks.
        @jax.jit
        def alone(norm: Array, common: Array | None, context: Context) -> Plan:
            finite = jnp.isfinite(norm)
            safe = jnp.where(finite, norm, 0)
            first, _ = before.update(safe, (), context)
            if common is not None:
                first = first._replace(factor=first.factor * common)
            divisor, _ = _behind(after, first, safe, (), context)
            # One number for both, and a division last: what comes behind it, XLA works out anew in
            # every program that uses it, here from the norm and its root.
            signed = jnp.where(finite, first.factor, 1) / jnp.where(finite, 1.0, -1.0)
            return Plan(jnp.abs(signed), divisor, signed >= 0)

        return Deciders(before, total, after, alone)


class Measured(NamedTuple):
    """What was measured in one step, all by label.

    Attributes:
      norms: Norms of the blocks.
      params: Norms of their parameters, where they are needed.
      sizes: Number of entries behind each norm.
    """

    norms: Norms
    params: Norms
    sizes: Mapping[str, int]


class Group(NamedTuple):
    """Blocks that are decided on together.

    Attributes:
      labels: Their labels, in order.
      norms: Their norms, stacked if `place` is given; those of the one label otherwise.
      place: Rows of the labels in the state; None where the state has no rows to choose from.
      unit: Whether it is one block with norms of its units.
    """

    labels: tuple[str, ...]
    norms: Array
    place: np.ndarray | None
    unit: bool

    def stack(self, values: Mapping[str, Any]) -> Any:
        """Values by label in the order of the norms."""
        if self.place is None:
            return values[self.labels[0]]
        return jnp.stack([values[label] for label in self.labels])

    def unstack(self, values: Array) -> Iterator[tuple[str, Array]]:
        """Pairs of a label and its values."""
        if self.place is None:
            return iter([(self.labels[0], values)])
        return zip(self.labels, jnp.unstack(values), strict=True)


def states(
    transformation: NormTransformation,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    collapse: bool,
    dtype: Any,
) -> BlockStates:
    """The states before the first step.

    Args:
      transformation: What decides.
      shapes: The shape of each label's norms, in the order of the labels.
      collapse: Whether there is one label, whose state is not stacked.
      dtype: Type of the norms.
    """
    scalars = [label for label, shape in shapes.items() if shape == ()]
    rows: Any = ()
    if scalars:
        rows = state_of(transformation, () if collapse else (len(scalars),), dtype)
    return BlockStates(
        rows,
        {
            label: state_of(transformation, shape, dtype)
            for label, shape in shapes.items()
            if shape != ()
        },
    )


def groups(
    labels: Sequence[str],
    state: BlockStates,
    norms: Norms,
    stacked: Array | None = None,
    *,
    collapse: bool,
) -> list[Group]:
    """The blocks that were measured, in groups.

    Args:
      labels: All labels of the state, in order.
      state: What `states` made for them.
      norms: Norms by label; labels that the state does not know are an error.
      stacked: Those of the blocks that have one norm, as a vector in the order of their labels,
        where they were stacked before.
      collapse: As for `states`.

    Raises:
      ValueError: The state does not know a label.
    """
    places = {label: row for row, label in enumerate(labels)}
    for label in norms:
        row_of(places, label)
    if collapse:
        return [Group((label,), norm, None, unit=False) for label, norm in norms.items()]
    scalars = [label for label in labels if label not in state.units]
    rows = {label: row for row, label in enumerate(scalars)}
    found = []
    if present := tuple(label for label in scalars if label in norms):
        if stacked is None:
            stacked = jnp.stack([norms[label] for label in present])
        place = np.array([rows[label] for label in present])
        found.append(Group(present, stacked, place, unit=False))
    found += [
        Group((label,), norms[label], None, unit=True)
        for label in labels
        if label in norms and label in state.units
    ]
    return found


def decide(
    deciders: Deciders,
    found: Sequence[Group],
    measured: Measured,
    state: Any,
    extra: Mapping[str, Any],
) -> tuple[dict[str, Plan], list[Decision], dict[str, Any]]:
    """Decides on all groups.

    Args:
      deciders: What decides.
      found: The groups.
      measured: What was measured.
      state: Anything with the fields `count`, `before`, `after` and `total`.
      extra: The extra arguments of `update`.

    Returns:
      Plans by label, the decision on each group, and the new fields of the state.
    """
    before, total, after, _ = deciders
    finite = [jnp.isfinite(group.norms) for group in found]
    # A block that is not finite is decided on as if it were zero, and then forgotten.
    safe = [jnp.where(good, group.norms, 0) for good, group in zip(finite, found, strict=True)]
    context = Context(
        state.count,
        example_norms=extra.get("example_norms"),
        total_norm=combined(safe) if safe else None,
    )
    contexts = [_context(context, group, measured) for group in found]
    decisions, kept = [], []
    for group, norms, its in zip(found, safe, contexts, strict=True):
        decision, new = before.update(norms, _rows(state.before, group), its)
        decisions.append(decision)
        kept.append(new)
    common, kept_total = None, state.total
    if total is not None and found:
        decisions, common, new = _together(total, decisions, safe, state)
        good = jnp.stack([jnp.all(one) for one in finite]).all()
        kept_total = _keep(good, new, state.total)
    plans: dict[str, Plan] = {}
    new_before, new_after = state.before, state.after
    for group, norms, its, decision, good, new in zip(
        found, safe, contexts, decisions, finite, kept, strict=True
    ):
        divisor, later = _behind(after, decision, norms, _rows(state.after, group), its)
        if group.place is not None and not jax.tree.leaves((new, later)):
            plans |= _one_by_one(deciders, common, group, measured, context)
        else:
            columns = (decision.factor, divisor, good)
            for parts in zip(*(group.unstack(column) for column in columns), strict=True):
                plans[parts[0][0]] = Plan(*(value for _, value in parts))
        new_before = _with_rows(new_before, group, good, new)
        new_after = _with_rows(new_after, group, good, later)
    fields = {"before": new_before, "after": new_after, "total": kept_total}
    return plans, decisions, fields


def _one_by_one(
    deciders: Deciders, common: Array | None, group: Group, measured: Measured, context: Context
) -> dict[str, Plan]:
    """The plans of blocks of which nothing is remembered, each made from its own norm.

    The same numbers as from the vector, and programs that are alike for all leaves of one shape, so
    that XLA compiles them once; one that picks its number from the vector is alike to no other.
    """
    plans = {}
    for label in group.labels:
        norm = measured.norms[label]
        own = _context(context, Group((label,), norm, None, unit=False), measured)
        plans[label] = deciders.alone(norm, common, own)
    return plans


def _behind(
    after: NormTransformation | None, first: Decision, norms: Array, rows: Any, context: Context
) -> tuple[Array, Any]:
    """The factor that `after` decides on, and its new state."""
    if after is None:
        return jnp.ones_like(norms), rows
    decision, rows = after.update(handed_on(first, norms), rows, context)
    return decision.factor, rows


def _together(
    total: NormTransformation, firsts: Sequence[Decision], norms: Sequence[Array], state: Any
) -> tuple[list[Decision], Array, Any]:
    """The decisions with a factor common to all blocks, that factor, and the state of `total`."""
    reached = [handed_on(first, norm) for first, norm in zip(firsts, norms, strict=True)]
    norm = combined(reached)
    decision, new = total.update(norm, state.total, Context(state.count, total_norm=norm))
    clips = norm > decision.threshold
    joined = []
    for first, size, left in zip(firsts, norms, reached, strict=True):
        # In units of the measured norm: what is left of a block that both clip.
        here = jnp.where(clips & (size > 0), left * decision.factor, jnp.inf)
        threshold = jnp.minimum(first.threshold, here)
        joined.append(Decision(first.factor * decision.factor, threshold))
    return joined, decision.factor, new


def _context(context: Context, group: Group, measured: Measured) -> Context:
    """The context with what is known of a group's blocks."""
    # NumPy numbers, as constants of the program.
    counts = np.array([measured.sizes[label] for label in group.labels], group.norms.dtype)
    return context._replace(
        param_norms=group.stack(measured.params) if measured.params else None,
        sizes=counts if group.place is not None else counts[0],
    )


def _keep(finite: Array, new: Any, old: Any) -> Any:
    """The new rows where a block's norm is finite, else the old ones."""

    def choose(new: Array, old: Array) -> Array:
        lead = finite.reshape(finite.shape + (1,) * (old.ndim - finite.ndim))
        return jnp.where(lead, new.astype(old.dtype), old)

    return jax.tree.map(choose, new, old)


def _rows(state: BlockStates, group: Group) -> Any:
    """The rows of a group; a copy only where blocks are missing."""
    if group.unit:
        return state.units[group.labels[0]]
    return jax.tree.map(lambda rows: rows if _whole(group, rows) else rows[group.place], state.rows)


def _with_rows(state: BlockStates, group: Group, finite: Array, new: Any) -> BlockStates:
    """The state with new rows for what is finite of a group."""
    kept = _keep(finite, new, _rows(state, group))
    if group.unit:
        return state._replace(units=state.units | {group.labels[0]: kept})
    return state._replace(
        rows=jax.tree.map(
            lambda fresh, rows: fresh if _whole(group, rows) else rows.at[group.place].set(fresh),
            kept,
            state.rows,
        )
    )


def _whole(group: Group, rows: Array) -> bool:
    """The ordinary case, in which nothing needs to be gathered or scattered."""
    return group.place is None or np.array_equal(group.place, np.arange(rows.shape[0]))


def state_of(
    transformation: NormTransformation | Threshold, shape: tuple[int, ...], dtype: Any
) -> Any:
    """The state before the first step, floating-point arrays in the dtype of the norms."""

    def cast(value: Any) -> Array:
        value = jnp.asarray(value)
        if not jnp.issubdtype(value.dtype, jnp.floating):
            return value
        return narrow(value, dtype)

    return jax.tree.map(cast, transformation.init(shape))
