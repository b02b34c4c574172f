"""Decisions on the norms of a step's blocks, guarded: what is not finite is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from clipax._typing import Array, Norms
from clipax.engine._blocks import Group, keep_rows, rows_of, with_rows
from clipax.engine._entries import Plan
from clipax.measure import combined
from clipax.norms import Decision, NormRule
from clipax.norms._base import handed_on
from clipax.thresholds import Context

__all__ = ["Deciders", "Measured", "decide"]


class Deciders(NamedTuple):
    """What decides.

    Attributes:
      before: Decides on the norms of blocks.
      total: Decides on the norm of all blocks together, as `before` leaves them; or None.
      after: Decides on the norms of blocks that both leave; None for a factor of 1.
      alone: Decides on one norm of a block of which nothing is remembered.
    """

    before: NormRule
    total: NormRule | None
    after: NormRule | None
    alone: Callable[[Array, Array | None, Context], Plan]

    @staticmethod
    def of(
        before: NormRule,
        total: NormRule | None = None,
        after: NormRule | None = None,
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
            return _plan(_signed(first.factor, finite), divisor)

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
        decision, new = before.update(norms, rows_of(state.before, group), its)
        decisions.append(decision)
        kept.append(new)
    common, kept_total = None, state.total
    if total is not None and found:
        decisions, common, new = _together(total, decisions, safe, state)
        good = jnp.stack([jnp.all(one) for one in finite]).all()
        kept_total = keep_rows(good, new, state.total)
    plans: dict[str, Plan] = {}
    new_before, new_after = state.before, state.after
    for group, norms, its, decision, good, new in zip(
        found, safe, contexts, decisions, finite, kept, strict=True
    ):
        divisor, later = _behind(after, decision, norms, rows_of(state.after, group), its)
        if group.place is not None and not jax.tree.leaves((new, later)):
            plans |= _one_by_one(deciders, common, group, measured, context)
        else:
            columns = (_signed(decision.factor, good), divisor)
            for parts in zip(*(group.unstack(column) for column in columns), strict=True):
                plans[parts[0][0]] = _plan(*(value for _, value in parts))
        new_before = with_rows(new_before, group, good, new)
        new_after = with_rows(new_after, group, good, later)
    fields = {"before": new_before, "after": new_after, "total": kept_total}
    return plans, decisions, fields


def _signed(factor: Array, finite: Array) -> Array:
    """A factor and whether it counts in one number, and a division last.

    What comes behind the last division, XLA works out anew in the program of every leaf: here the
    sign, and not from the norm and its root.
    """
    return jnp.where(finite, factor, 1) / jnp.where(finite, 1.0, -1.0)


def _plan(signed: Array, divisor: Array) -> Plan:
    return Plan(jnp.abs(signed), divisor, signed >= 0)


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
    after: NormRule | None, first: Decision, norms: Array, rows: Any, context: Context
) -> tuple[Array, Any]:
    """The factor that `after` decides on, and its new state."""
    if after is None:
        return jnp.ones_like(norms), rows
    decision, rows = after.update(handed_on(first, norms), rows, context)
    return decision.factor, rows


def _together(
    total: NormRule, firsts: Sequence[Decision], norms: Sequence[Array], state: Any
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
