"""One step of any transformation: measure, decide, apply, record.

step = Step.begin(spec, updates, state, params, extra)
norms = step.norms()
factors = step.decide(rules, norms)
updates = step.apply(entry_rule, factors)
return step.finish(updates)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from clipax._typing import Array, Norms, Params, Scalar, Updates
from clipax.engine._blocks import Group, group_blocks, read_together
from clipax.engine._decide import Measured, NormRules, decide
from clipax.engine._entries import EntryRule, apply_rule, hide_narrow
from clipax.engine._factors import BlockFactors, read_factors
from clipax.engine._spec import ScaleByNormState, Spec
from clipax.engine._telemetry import known_labels, record
from clipax.measure import (
    Derived,
    Leaf,
    Measurement,
    accumulation_dtype,
    assume_computed,
    count_entries,
    index_by_path,
    magnitudes,
    measure,
    name_leaves,
    replace_values,
)
from clipax.norms import Decision
from clipax.thresholds import Context

__all__ = ["Step"]


@dataclasses.dataclass
class Step:
    """One step, from the incoming updates to the outgoing ones.

    Attributes:
      spec: The scope and policies of the transformation.
      leaves: The updates' leaves.
      structure: Their tree.
      params: The parameters that belong to the leaves; None where they are not needed.
      start: The state before the step.
      state: The state so far: `decide` and `apply` bring it up to date.
      extra: The extra arguments of `update`.
      groups: The blocks that were decided on.
      decisions: The decision on each group.
    """

    spec: Spec
    leaves: list[Leaf]
    structure: Any
    params: list[Array] | None
    start: ScaleByNormState
    state: ScaleByNormState
    extra: Mapping[str, Any]
    groups: list[Group] = dataclasses.field(default_factory=list)
    decisions: list[Decision] = dataclasses.field(default_factory=list)

    @staticmethod
    def begin(
        spec: Spec,
        updates: Updates,
        state: ScaleByNormState,
        params: Params | None,
        extra: Mapping[str, Any],
        *,
        needs_params: bool = False,
    ) -> Step:
        """Name the leaves and match the parameters by path.

        Raises:
          TypeError: A leaf is not of a floating-point or complex type.
          ValueError: `params` are needed and not given, or lack a leaf.
        """
        leaves, structure = name_leaves(updates, spec.scope)
        # Parameters that nothing depends on may have any structure, and are not matched.
        wanted = params if needs_params or spec.axis_name is not None else None
        matched = _match_params(leaves, wanted, required=needs_params)
        return Step(spec, leaves, structure, matched, state, state, extra)

    def with_state(self, state: ScaleByNormState) -> Step:
        """Begin a second round of the same step, with a state of its own."""
        return dataclasses.replace(self, start=state, state=state)

    @property
    def dtype(self) -> Any:
        """Return the type of the norms."""
        return self.start.telemetry.latest.dtype

    @property
    def context(self) -> Context:
        """Make the facts that rules on norms may use besides the norms."""
        count = self.start.telemetry.steps
        return Context(count, example_norms=self.extra.get("example_norms"))

    def norms(
        self, values: Sequence[Array] | None = None, derived: Derived | None = None
    ) -> Measurement:
        """Measure the norms of the gradient's blocks, or of other values shaped like its leaves.

        Args:
          values: The values to measure in place of the leaves.
          derived: The function and arrays that give `values`: they are then computed as they are
            read, and never written.
        """
        if values is None:
            return self._measure(self.leaves, self.params, derived)
        with assume_computed():
            return self._measure(replace_values(self.leaves, values), self.params, derived)

    def magnitudes(
        self, order: Literal["max", "sum"], values: Sequence[Array] | None = None
    ) -> Norms:
        """Measure the largest magnitude of each block's entries, or the sum of all, by label.

        Args:
          order: Which of the two.
          values: The values to measure in place of the leaves.
        """
        wide = accumulation_dtype([self.dtype, *(leaf.value.dtype for leaf in self.leaves)])
        leaves = self.leaves if values is None else replace_values(self.leaves, values)
        sizes = magnitudes(leaves, wide, order, axis_name=self.spec.axis_name)
        return {label: size.astype(self.dtype) for label, size in sizes.items()}

    def decide(self, rules: NormRules, norms: Measurement | Norms) -> dict[str, BlockFactors]:
        """Decide on the norms, record the decision, and return the factors by label.

        A block whose norm is not finite keeps its memory.
        """
        norms, stacked = norms if isinstance(norms, Measurement) else (norms, None)
        excluded = {leaf.block.label for leaf in self.leaves if leaf.block.excluded}
        blocks = {label: norm for label, norm in norms.items() if label not in excluded}
        telemetry, states, _ = self.state
        context = self.context
        states, count = read_together((states, context.count), telemetry.latest.shape[:-1])
        context = context._replace(count=count)
        self.groups = group_blocks(
            known_labels(telemetry), states.before, blocks, stacked, collapse=self.spec.collapse
        )
        params = Measurement({}, None)
        if rules.needs_params:
            # `apply_updates` converts bfloat16 parameters as well: without barriers XLA for CPU
            # would share the float32 copy and write it out (`benchmarks/NOTES.md`).
            values = hide_narrow(self.params or ())
            params = self._measure(replace_values(self.leaves, values), None)
        factors, self.decisions, update_factors, states = decide(
            rules, self.groups, Measured(blocks, params, self.sizes), states, context
        )
        others = [norm for label, norm in norms.items() if label in excluded]
        telemetry = record(telemetry, self.groups, self.decisions, update_factors, others)
        factors = read_factors(factors, self.groups, self.decisions, update_factors, telemetry)
        for label in norms.keys() & excluded:
            ones = jnp.ones_like(norms[label])
            factors[label] = BlockFactors(ones, ones, jnp.isfinite(norms[label]))
        self.state = self.state._replace(telemetry=telemetry, rules=states)
        return factors

    @property
    def sizes(self) -> dict[str, int]:
        """Count the entries behind each block's norm, over all shards."""
        return count_entries(self.leaves, axis_name=self.spec.axis_name)

    def thresholds(self) -> Norms:
        """Return the thresholds that were decided on, by label."""
        return {
            label: threshold
            for group, decision in zip(self.groups, self.decisions, strict=True)
            for label, threshold in group.unstack(decision.threshold)
        }

    def apply(
        self,
        rule: EntryRule,
        factors: Mapping[str, BlockFactors],
        *,
        values: Sequence[Array] | None = None,
        weight_decay: Scalar | None = None,
        steps: Norms | None = None,
        saturate: bool = True,
    ) -> list[Array]:
        """Make the updates of the leaves; the memory of the rule enters the state.

        Args:
          rule: The rule on entries.
          factors: The factors of their blocks, by label.
          values: The values to take in place of the leaves, computed from what `hide` returned.
          weight_decay: As for `apply_rule`.
          steps: How many steps counted, by path; None to read it where there is one block.
          saturate: As for `apply_rule`.
        """
        telemetry = self.start.telemetry
        if values is None:
            values = hide_narrow([leaf.value for leaf in self.leaves])
        counted = telemetry.steps - telemetry.nonfinite_count if self.spec.collapse else None
        updates, memory = apply_rule(
            rule,
            self.leaves,
            values,
            factors,
            self.params,
            self.state.memory,
            weight_decay=weight_decay,
            fill=self.spec.fill,
            count=telemetry.steps,
            steps=counted if steps is None else steps,
            saturate=saturate,
        )
        self.state = self.state._replace(memory=memory)
        return updates

    def finish(self, updates: Sequence[Array]) -> tuple[Updates, ScaleByNormState]:
        """Return the tree of updates, and the state after the step."""
        return jax.tree.unflatten(self.structure, updates), self.state

    def _measure(
        self,
        leaves: Sequence[Leaf],
        params: Sequence[Array] | None,
        derived: Derived | None = None,
    ) -> Measurement:
        """Measure in the leaves' own precision or better, and give norms in the state's dtype."""
        wide = accumulation_dtype([self.dtype, *(leaf.value.dtype for leaf in leaves)])
        norms, stacked = measure(
            leaves, wide, axis_name=self.spec.axis_name, params=params, derived=derived
        )
        norms = {label: values.astype(self.dtype) for label, values in norms.items()}
        return Measurement(norms, None if stacked is None else stacked.astype(self.dtype))


def _match_params(
    leaves: Sequence[Leaf], params: Params | None, *, required: bool
) -> list[Array] | None:
    """Select the parameters that belong to the leaves, by path."""
    if params is None:
        if required and leaves:
            raise ValueError(
                "`params` must be given: this transformation uses the parameters; call "
                "`update(updates, state, params)`."
            )
        return None
    rows = index_by_path(params)
    if missing := [leaf.path for leaf in leaves if leaf.path not in rows]:
        raise ValueError(
            f"`params` must hold every leaf of the updates, {missing[0]!r} is missing."
        )
    return [rows[leaf.path] for leaf in leaves]
