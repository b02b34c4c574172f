"""Decisions on the norms of a step's blocks; a block that is not finite leaves no trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from clipax import _validate
from clipax._export import exportable
from clipax._typing import Array, Norms
from clipax.engine._blocks import (
    BlockStates,
    Group,
    init_rule,
    init_states,
    keep_rows,
    select_rows,
    update_rows,
)
from clipax.engine._factors import BlockFactors, pack, unpack
from clipax.measure import Measurement, combine_norms
from clipax.norms import Decision, NormRule, identity
from clipax.norms._base import scale_norms
from clipax.thresholds import Context, Threshold

__all__ = [
    "Measured",
    "NormRules",
    "RuleStates",
    "decide",
    "forget",
]


@exportable
class RuleStates(NamedTuple):
    """The states of the rules of `NormRules`; `()` for a rule that is not there.

    Attributes:
      before: State of `before`, for each block.
      after: State of `after`, likewise.
      total: State of `total`.
    """

    before: BlockStates
    after: Any
    total: Any


class NormRules(NamedTuple):
    """The rules that decide on the norms of one measurement.

    Attributes:
      before: Decides on the norms of blocks.
      total: Decides on the norm of all blocks together, as `before` leaves them; or None.
      after: Decides on the norms of blocks that both leave; None for a factor of 1.
      decide_alone: Decides on the norm of one block, for rules without memory.
    """

    before: NormRule
    total: NormRule | None
    after: NormRule | None
    decide_alone: Callable[[Array, Array | None, Context], BlockFactors]

    @staticmethod
    def of(
        before: NormRule | None = None,
        *,
        total: NormRule | None = None,
        after: NormRule | None = None,
    ) -> NormRules:
        """Check the rules; None for `before` is a factor of 1.

        Raises:
          TypeError: One is no `NormRule`.
          ValueError: `total` depends on the parameters.
        """
        before = identity() if before is None else before
        for name, rule in (("before", before), ("total", total), ("after", after)):
            if rule is not None and not isinstance(rule, NormRule):
                raise TypeError(
                    f"`{name}` must be made by `clipax.norms`, got {rule!r}{_hint(rule)}"
                )
        if total is not None and total.needs_params:
            raise ValueError(f"`total` must not depend on the parameters, got {total!r}.")

        # Under `jit`, so that it is traced once for all blocks.
        @jax.jit
        def decide_alone(norm: Array, common: Array | None, context: Context) -> BlockFactors:
            finite = jnp.isfinite(norm)
            safe = jnp.where(finite, norm, 0)
            decision, _ = before.update(safe, (), context)
            if common is not None:
                decision = decision._replace(factor=decision.factor * common)
            factor, _ = _decide_after(after, decision, safe, (), context)
            return unpack(pack(decision.factor, finite), factor)

        return NormRules(before, total, after, decide_alone)

    @property
    def needs_params(self) -> bool:
        """Tell whether a rule uses the norms of the parameters."""
        return any(rule.needs_params for rule in (self.before, self.after) if rule is not None)

    @property
    def never_amplifies(self) -> bool:
        """Tell whether no factor is above 1."""
        rules = (self.before, self.total, self.after)
        return all(rule.never_amplifies for rule in rules if rule is not None)

    def init(
        self, shapes: Mapping[str, tuple[int, ...]], *, collapse: bool, dtype: Any
    ) -> RuleStates:
        """Make the states before the first step; arguments as for `init_states`."""
        before, after = (
            init_states(rule, shapes, collapse=collapse, dtype=dtype)
            for rule in (self.before, self.after)
        )
        total = () if self.total is None else init_rule(self.total, (), dtype)
        return RuleStates(before, after, total)


def _hint(rule: Any) -> str:
    """Say how to make a rule of a threshold, or of a factory that was not called."""
    if isinstance(rule, Threshold):
        return "; `norms.clip(threshold)` makes a rule of a threshold."
    return _validate.call_hint(rule) or "."


class Measured(NamedTuple):
    """The measurements of one step, all by label.

    Attributes:
      norms: Norms of the blocks.
      params: Norms of their parameters, where they are needed.
      sizes: Number of entries behind each norm.
    """

    norms: Norms
    params: Measurement
    sizes: Mapping[str, int]


def decide(
    rules: NormRules,
    groups: Sequence[Group],
    measured: Measured,
    states: RuleStates,
    context: Context,
) -> tuple[dict[str, BlockFactors], list[Decision], list[Array | None], RuleStates]:
    """Decide on all groups.

    Args:
      rules: The rules that decide.
      groups: The groups.
      measured: The measurements of the step.
      states: The states of the rules.
      context: The facts that rules may use besides the norms.

    Returns:
      Factors by label; for each group the decision, and the factor of the update or None
      for 1; and the new states.
    """
    finite = [jnp.isfinite(group.norms) for group in groups]
    # Rules see zero for a norm that is not finite; their decision and new state are then dropped.
    safe = [jnp.where(good, group.norms, 0) for good, group in zip(finite, groups, strict=True)]
    context = context._replace(total_norm=combine_norms(safe) if safe else None)
    contexts = [_add_blocks(context, group, measured) for group in groups]
    decisions, fresh = [], []
    for group, norms, facts in zip(groups, safe, contexts, strict=True):
        decision, new = rules.before.update(norms, select_rows(states.before, group), facts)
        decisions.append(decision)
        fresh.append(new)
    common = None
    if rules.total is not None and groups:
        decisions, common, new = _decide_total(rules.total, decisions, safe, states.total, context)
        good = jnp.stack([jnp.all(flags) for flags in finite]).all()
        states = states._replace(total=keep_rows(good, new, states.total))
    factors: dict[str, BlockFactors] = {}
    update_factors: list[Array | None] = []
    before, after = states.before, states.after
    for group, norms, facts, decision, good, new in zip(
        groups, safe, contexts, decisions, finite, fresh, strict=True
    ):
        rows = () if rules.after is None else select_rows(after, group)
        update_factor, later = _decide_after(rules.after, decision, norms, rows, facts)
        update_factors.append(None if rules.after is None else update_factor)
        if group.rows is not None and not jax.tree.leaves((new, later)):
            factors |= _decide_each(rules, common, group, measured, context)
        else:
            columns = (pack(decision.factor, good), update_factor)
            for pairs in zip(*(group.unstack(column) for column in columns), strict=True):
                factors[pairs[0][0]] = unpack(*(value for _, value in pairs))
        before = update_rows(before, group, good, new)
        if rules.after is not None:
            after = update_rows(after, group, good, later)
    return factors, decisions, update_factors, states._replace(before=before, after=after)


def forget(norms: Norms, finite: Mapping[str, Array]) -> Norms:
    """Set norms to NaN where the step does not count, so that nothing is remembered of them."""
    return {label: jnp.where(finite[label], norm, jnp.nan) for label, norm in norms.items()}


def _decide_each(
    rules: NormRules, common: Array | None, group: Group, measured: Measured, context: Context
) -> dict[str, BlockFactors]:
    """Compute the factors of blocks without memory, each from its own norm.

    They are the numbers that stand in the stacked vector. But a slice of that vector would make
    every leaf's program unique; from its own norm it is equal for all leaves of one shape, and XLA
    compiles it once: 1.9 instead of 4 to 5 times the global norm's compile time at 2,000 leaves
    (`benchmarks/NOTES.md`).
    """
    factors = {}
    for label in group.labels:
        norm = measured.norms[label]
        facts = _add_blocks(context, Group((label,), norm, None, unit=False), measured)
        factors[label] = rules.decide_alone(norm, common, facts)
    return factors


def _decide_after(
    after: NormRule | None, decision: Decision, norms: Array, rows: Any, context: Context
) -> tuple[Array, Any]:
    """Decide by `after`: its factor and its new state."""
    if after is None:
        return jnp.ones_like(norms), rows
    decision, rows = after.update(scale_norms(decision, norms), rows, context)
    return decision.factor, rows


def _decide_total(
    total: NormRule,
    decisions: Sequence[Decision],
    norms: Sequence[Array],
    state: Any,
    context: Context,
) -> tuple[list[Decision], Array, Any]:
    """Decide by `total`: all decisions with its common factor, that factor, and its new state."""
    scaled = [scale_norms(decision, norm) for decision, norm in zip(decisions, norms, strict=True)]
    norm = combine_norms(scaled)
    common, new = total.update(norm, state, Context(context.count, total_norm=norm))
    clips = norm > common.threshold
    joined = []
    for decision, size, left in zip(decisions, norms, scaled, strict=True):
        # In units of the measured norm: the length that is left of a block where both clip it.
        here = jnp.where(clips & (size > 0), left * common.factor, jnp.inf)
        threshold = jnp.minimum(decision.threshold, here)
        joined.append(Decision(decision.factor * common.factor, threshold))
    return joined, common.factor, new


def _add_blocks(context: Context, group: Group, measured: Measured) -> Context:
    """Add the parameters' norms and the sizes of a group's blocks to the context."""
    # As NumPy numbers they are constants of the program, not arguments.
    counts = np.array([measured.sizes[label] for label in group.labels], group.norms.dtype)
    return context._replace(
        param_norms=_stack_params(group, measured.params) if measured.params.norms else None,
        sizes=counts if group.rows is not None else counts[0],
    )


def _stack_params(group: Group, params: Measurement) -> Array:
    """Stack the parameters' norms of a group, as the measurement did where it can."""
    if group.rows is None or params.stacked is None:
        return group.stack(params.norms)
    return params.stacked
