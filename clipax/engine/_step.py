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
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from clipax import _validate, scopes
from clipax._typing import Array, AxisName, NonFinite, Norms, Params, Scalar, Updates
from clipax.engine._blocks import Group, group_blocks
from clipax.engine._decide import BlockFactors, Measured, NormRules, RuleStates, decide
from clipax.engine._entries import EntryRule, apply_rule, hide, init_memory
from clipax.engine._telemetry import Telemetry, init_telemetry, known_labels, record
from clipax.measure import (
    Derived,
    Leaf,
    Measurement,
    accumulation_dtype,
    count_entries,
    index_by_path,
    magnitudes,
    measure,
    name_leaves,
    replace_values,
)
from clipax.norms import Decision
from clipax.scopes import Scope
from clipax.thresholds import Context

__all__ = ["ScaleByNormState", "Spec", "Step"]


class ScaleByNormState(NamedTuple):
    """State of `scale_by_norm` and of all that is made of it; every array is finite at all times.

    Attributes:
      telemetry: What was measured and done; `clipax.metrics` reads it.
      rules: What the rules on norms remember.
      memory: What is remembered for each entry: a dictionary of trees like the parameters, by name
        (`"momentum"`: the moving average of the scaled gradients, with `b1`); empty without.
    """

    telemetry: Telemetry
    rules: RuleStates
    memory: dict[str, Any]


class Spec(NamedTuple):
    """What all steps of a transformation have in common.

    Attributes:
      scope: Which entries share a norm.
      nonfinite: `"zero"` or `"propagate"`.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`.
    """

    scope: Scope
    nonfinite: NonFinite
    axis_name: AxisName

    @staticmethod
    def of(
        scope: str | Scope = "global",
        nonfinite: NonFinite = "zero",
        axis_name: AxisName = None,
    ) -> Spec:
        """Checks the arguments that all transformations share."""
        _validate.one_of("nonfinite", nonfinite, ("zero", "propagate"))
        return Spec(scopes.resolve(scope), nonfinite, axis_name)

    @property
    def fill(self) -> float:
        """What stands in an update for a block that is not finite."""
        return 0.0 if self.nonfinite == "zero" else float("nan")

    @property
    def collapse(self) -> bool:
        """Whether there is one norm, whose records have no axis of blocks."""
        return scopes.is_global(self.scope)

    def init(
        self, rules: NormRules, params: Params, entry_rule: EntryRule | None = None
    ) -> ScaleByNormState:
        """The state before the first step."""
        leaves, _ = name_leaves(params, self.scope)
        dtype = accumulation_dtype([leaf.value.dtype for leaf in leaves])
        shapes: dict[str, tuple[int, ...]] = {scopes.GLOBAL: ()} if self.collapse else {}
        for leaf in leaves:
            if not leaf.block.excluded:
                kept = tuple(leaf.value.shape[axis] for axis in leaf.block.keep)
                shapes[leaf.block.label] = kept
        # Sorted, as the keys of a dictionary are once it has passed through a transformation.
        shapes = dict(sorted(shapes.items()))
        excluded = any(leaf.block.excluded for leaf in leaves)
        return ScaleByNormState(
            init_telemetry(shapes, excluded=excluded, collapse=self.collapse, dtype=dtype),
            rules.init(shapes, collapse=self.collapse, dtype=dtype),
            {} if entry_rule is None else init_memory(entry_rule, params),
        )


@dataclasses.dataclass
class Step:
    """One step, from the updates that come to those that go.

    Attributes:
      spec: What all steps have in common.
      leaves: The updates' leaves.
      structure: Their tree.
      params: The parameters that belong to the leaves; None where nobody needs them.
      start: The state before the step.
      state: The state so far: `decide` and `apply` bring it up to date.
      extra: The extra arguments of `update`.
      groups: The blocks that were decided on.
      decisions: What was decided on each group.
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
        """Names the leaves and matches the parameters by path.

        Raises:
          TypeError: A leaf is not of a floating-point or complex type.
          ValueError: `params` are needed and not given, or lack a leaf.
        """
        leaves, structure = name_leaves(updates, spec.scope)
        # Not looked at where nothing depends on them: any structure will do then.
        wanted = params if needs_params or spec.axis_name is not None else None
        own = _match_params(leaves, wanted, required=needs_params)
        return Step(spec, leaves, structure, own, state, state, extra)

    def another(self, state: ScaleByNormState) -> Step:
        """A second measurement of the same step, with a state of its own."""
        return dataclasses.replace(self, start=state, state=state)

    @property
    def dtype(self) -> Any:
        """Type of the norms."""
        return self.start.telemetry.latest.dtype

    @property
    def context(self) -> Context:
        """What rules on norms are told besides them."""
        count = self.start.telemetry.steps
        return Context(count, example_norms=self.extra.get("example_norms"))

    def norms(
        self, values: Sequence[Array] | None = None, derived: Derived | None = None
    ) -> Measurement:
        """The norms of the gradient's blocks, or of other values shaped like its leaves.

        Args:
          values: What to measure in place of the leaves.
          derived: How `values` come from arrays in memory: they are then computed as they are read.
        """
        leaves = self.leaves if values is None else replace_values(self.leaves, values)
        return self._measure(leaves, self.params, derived)

    def magnitudes(self, order: Literal["max", "sum"]) -> Norms:
        """The largest magnitude of each block's entries, or the sum of all, by label."""
        wide = accumulation_dtype([self.dtype, *(leaf.value.dtype for leaf in self.leaves)])
        sizes = magnitudes(self.leaves, wide, order, axis_name=self.spec.axis_name)
        return {label: size.astype(self.dtype) for label, size in sizes.items()}

    def decide(self, rules: NormRules, norms: Measurement | Norms) -> dict[str, BlockFactors]:
        """Decides on the norms, and records it: factors by label.

        Where a norm is not finite, what is remembered of its block is kept.
        """
        norms, stacked = norms if isinstance(norms, Measurement) else (norms, None)
        excluded = {leaf.block.label for leaf in self.leaves if leaf.block.excluded}
        blocks = {label: norm for label, norm in norms.items() if label not in excluded}
        telemetry, states, _ = self.state
        self.groups = group_blocks(
            known_labels(telemetry), states.before, blocks, stacked, collapse=self.spec.collapse
        )
        params: Norms = {}
        if rules.needs_params:
            # Behind barriers: who applies the updates converts the parameters too.
            values = hide(self.params or ())
            params = self._measure(replace_values(self.leaves, values), None).norms
        factors, self.decisions, states = decide(
            rules, self.groups, Measured(blocks, params, self.sizes), states, self.context
        )
        for label in norms.keys() & excluded:
            one = jnp.ones_like(norms[label])
            factors[label] = BlockFactors(one, one, jnp.isfinite(norms[label]))
        others = [norm for label, norm in norms.items() if label in excluded]
        telemetry = record(telemetry, self.groups, self.decisions, others)
        self.state = self.state._replace(telemetry=telemetry, rules=states)
        return factors

    @property
    def sizes(self) -> dict[str, int]:
        """Number of entries behind each block's norm, over all shards."""
        return count_entries(self.leaves, axis_name=self.spec.axis_name)

    def thresholds(self) -> Norms:
        """The thresholds that were decided on, by label."""
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
        """The updates of the leaves; what the rule remembers enters the state.

        Args:
          rule: What to do with the entries.
          factors: What to do with their blocks, by label.
          values: What stands in place of the leaves; made of what `hide` returned.
          weight_decay: As for `apply_rule`.
          steps: How many steps counted, by path; None for those of the one block there is.
          saturate: As for `apply_rule`.
        """
        telemetry = self.start.telemetry
        if values is None:
            values = hide([leaf.value for leaf in self.leaves])
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
        """The tree of updates, and the state after the step."""
        return jax.tree.unflatten(self.structure, updates), self.state

    def _measure(
        self,
        leaves: Sequence[Leaf],
        params: Sequence[Array] | None,
        derived: Derived | None = None,
    ) -> Measurement:
        """Norms summed in the leaves' own precision or better, in the dtype of the state."""
        wide = accumulation_dtype([self.dtype, *(leaf.value.dtype for leaf in leaves)])
        norms, stacked = measure(
            leaves, wide, axis_name=self.spec.axis_name, params=params, derived=derived
        )
        norms = {label: values.astype(self.dtype) for label, values in norms.items()}
        return Measurement(norms, None if stacked is None else stacked.astype(self.dtype))


def _match_params(
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
    rows = index_by_path(params)
    if missing := [leaf.path for leaf in leaves if leaf.path not in rows]:
        raise ValueError(
            f"`params` must hold every leaf of the updates, {missing[0]!r} is missing."
        )
    return [rows[leaf.path] for leaf in leaves]
