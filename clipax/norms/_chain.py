"""Composition of rules on norms."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from clipax import _validate
from clipax._typing import Array
from clipax.norms._base import Decision, NormRule, scale_norms
from clipax.thresholds import Context

__all__ = ["chain", "identity"]


def identity() -> NormRule:
    """Leave every gradient as it is: factor 1, nothing clips."""

    def update(norms: Array, state: Any, context: Context) -> tuple[Decision, Any]:
        return Decision(jnp.ones_like(norms), jnp.full_like(norms, jnp.inf)), state

    return NormRule(lambda shape: (), update, never_amplifies=True)


def chain(*rules: NormRule) -> NormRule:
    """Apply rules on norms one after another, for one read of the gradient.

    Each is handed the norm that its predecessors leave, `factor * norm`; factors multiply, and the
    threshold is the smallest of all, in units of the norm that was measured.

    Args:
      *rules: The rules, first to last; none at all is the identity.

    Returns:
      A `NormRule`.

    Raises:
      TypeError: An argument is not a `NormRule`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> both = clipax.norms.chain(clipax.norms.clip(2.0), clipax.norms.normalize(eps=1.0))
      >>> context = clipax.thresholds.Context(count=jnp.array(0))
      >>> decision, _ = both.update(jnp.array([8.0]), both.init((1,)), context)
      >>> print(decision.factor * 8)  # clipped to 2, then divided by 2 + 1
      [0.6666667]
    """
    for rule in rules:
        if not isinstance(rule, NormRule):
            hint = _validate.call_hint(rule) or "."
            raise TypeError(f"`rules` must be made by `clipax.norms`, got {rule!r}{hint}")

    def init(shape: tuple[int, ...]) -> Any:
        return tuple(rule.init(shape) for rule in rules)

    def update(norms: Array, state: Any, context: Context) -> tuple[Decision, Any]:
        factor, threshold = jnp.ones_like(norms), jnp.full_like(norms, jnp.inf)
        states = []
        for rule, old in zip(rules, state, strict=True):
            scaled = scale_norms(Decision(factor, threshold), norms)
            decision, new = rule.update(scaled, old, context)
            # In units of the measured norm; a factor of zero leaves nothing to clip.
            passes = factor > 0
            here = decision.threshold / jnp.where(passes, factor, 1)
            threshold = jnp.minimum(threshold, jnp.where(passes, here, jnp.inf))
            factor = factor * decision.factor
            states.append(new)
        return Decision(factor, threshold), tuple(states)

    return NormRule(
        init,
        update,
        needs_params=any(rule.needs_params for rule in rules),
        never_amplifies=all(rule.never_amplifies for rule in rules),
    )
