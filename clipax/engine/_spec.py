"""The parts of a transformation that all its steps share: its state, its scope and policies."""

from __future__ import annotations

from typing import Any, NamedTuple

from clipax import _validate, scopes
from clipax._export import exportable
from clipax._typing import AxisName, NonFinite, Params
from clipax.engine._decide import NormRules, RuleStates
from clipax.engine._entries import EntryRule, init_memory
from clipax.engine._telemetry import Telemetry, init_telemetry
from clipax.measure import accumulation_dtype, name_leaves
from clipax.scopes import Scope

__all__ = ["ScaleByNormState", "Spec"]


@exportable
class ScaleByNormState(NamedTuple):
    """State of `scale_by_norm` and of all that is made of it; every array is finite at all times.

    Attributes:
      telemetry: The records of norms and decisions; `clipax.metrics` reads it.
      rules: The states of the rules on norms.
      memory: The memory of the entry rule: a dictionary of trees like the parameters, by name
        (`"momentum"`: the moving average of the scaled gradients, with `b1`); empty without.
    """

    telemetry: Telemetry
    rules: RuleStates
    memory: dict[str, Any]


class Spec(NamedTuple):
    """The arguments that all transformations share, checked.

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
        """Check the arguments and resolve the scope."""
        _validate.one_of("nonfinite", nonfinite, ("zero", "propagate"))
        _validate.axis_name(axis_name)
        return Spec(scopes.resolve(scope), nonfinite, axis_name)

    @property
    def fill(self) -> float:
        """Return the update of a block that is not finite: zero or NaN."""
        return 0.0 if self.nonfinite == "zero" else float("nan")

    @property
    def collapse(self) -> bool:
        """Tell whether there is one norm, whose records have no axis of blocks."""
        return scopes.is_global(self.scope)

    def init(
        self, rules: NormRules, params: Params, entry_rule: EntryRule | None = None
    ) -> ScaleByNormState:
        """Make the state before the first step."""
        leaves, _ = name_leaves(params, self.scope, check_patterns=True)
        dtype = accumulation_dtype([leaf.value.dtype for leaf in leaves])
        shapes: dict[str, tuple[int, ...]] = {scopes.GLOBAL: ()} if self.collapse else {}
        for leaf in leaves:
            if not leaf.block.excluded:
                kept = tuple(leaf.value.shape[axis] for axis in leaf.block.keep)
                shapes[leaf.block.label] = kept
        # Sorted, as JAX sorts the keys of a dictionary: labels are read back from one.
        shapes = dict(sorted(shapes.items()))
        excluded = any(leaf.block.excluded for leaf in leaves)
        return ScaleByNormState(
            init_telemetry(shapes, excluded=excluded, collapse=self.collapse, dtype=dtype),
            rules.init(shapes, collapse=self.collapse, dtype=dtype),
            {} if entry_rule is None else init_memory(entry_rule, params),
        )
