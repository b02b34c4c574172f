"""Lifts rules on norms and on entries to a gradient transformation."""

from __future__ import annotations

from typing import Any

import optax

from clipax import _validate
from clipax._typing import Params, Scalar, Updates
from clipax.engine._decide import NormRules
from clipax.engine._entries import EntryRule, scale
from clipax.engine._spec import ScaleByNormState, Spec
from clipax.engine._step import Step
from clipax.engine._transformation import make_transformation

__all__ = ["lift"]


def lift(
    spec: Spec,
    rules: NormRules,
    entry_rule: EntryRule | None = None,
    *,
    weight_decay: Scalar | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Make the transformation of one measurement, one decision and one rule for the entries.

    Args:
      spec: Scope and policies.
      rules: The rules that decide on the norms.
      entry_rule: The rule that makes the update; None for the scaled gradient.
      weight_decay: Adds this multiple of the parameters to the gradient after it was measured; None
        for none.
    """
    if weight_decay is not None:
        _validate.non_negative("weight_decay", weight_decay)
    rule = scale() if entry_rule is None else entry_rule
    # An entry that no factor enlarges still fits its dtype: the clamp can be left out.
    saturate = not (entry_rule is None and weight_decay is None and rules.never_amplifies)
    needs_params = rules.needs_params or rule.needs_params or weight_decay is not None

    def init(params: Params) -> ScaleByNormState:
        return spec.init(rules, params, rule)

    def update(
        updates: Updates, state: ScaleByNormState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, ScaleByNormState]:
        step = Step.begin(spec, updates, state, params, extra, needs_params=needs_params)
        factors = step.decide(rules, step.norms())
        scaled = step.apply(rule, factors, weight_decay=weight_decay, saturate=saturate)
        return step.finish(scaled)

    return make_transformation(init, update, ScaleByNormState)
