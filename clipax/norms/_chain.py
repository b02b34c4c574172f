"""Composition of decisions on norms."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from clipax._typing import Array
from clipax.norms._base import Decision, NormRule, handed_on
from clipax.thresholds import Context

__all__ = ["chain", "identity"]


def identity() -> NormRule:
    """Leaves every gradient as it is: factor 1, nothing clips."""

    def update(norms: Array, state: Any, context: Context) -> tuple[Decision, Any]:
        return Decision(jnp.ones_like(norms), jnp.full_like(norms, jnp.inf)), state

    return NormRule(lambda shape: (), update, never_amplifies=True)


def chain(*transformations: NormRule) -> NormRule:
    """Applies transformations of norms one after another, for one read of the gradient.

    Each is handed the norm that its predecessors leave, `factor * norm`; factors multiply, and the
    threshold is the smallest of all, in units of the norm that was measured.

    Args:
      *transformations: What to apply, first to last; none at all is the identity.

    Returns:
      A transformation of norms.

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
    for transformation in transformations:
        if not isinstance(transformation, NormRule):
            raise TypeError(
                f"`transformations` must be made by `clipax.norms`, got {transformation!r}."
            )

    def init(shape: tuple[int, ...]) -> Any:
        return tuple(transformation.init(shape) for transformation in transformations)

    def update(norms: Array, state: Any, context: Context) -> tuple[Decision, Any]:
        factor, threshold = jnp.ones_like(norms), jnp.full_like(norms, jnp.inf)
        states = []
        for transformation, old in zip(transformations, state, strict=True):
            reached = handed_on(Decision(factor, threshold), norms)
            decision, new = transformation.update(reached, old, context)
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
        needs_params=any(transformation.needs_params for transformation in transformations),
        never_amplifies=all(transformation.never_amplifies for transformation in transformations),
    )
