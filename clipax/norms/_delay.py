"""Factors that lag behind the gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from clipax import _validate
from clipax._export import exportable
from clipax._typing import Array, Scalar
from clipax.norms._base import Decision, NormRule
from clipax.thresholds import Context
from clipax.thresholds._base import is_seen, keep_rows

__all__ = ["delay", "delay_factors"]


@exportable
class DelayState(NamedTuple):
    """State of `delay`.

    Attributes:
      factors: The factors of the last steps, oldest first; one more axis than the norms have.
      inner: State of the delayed rule.
    """

    factors: Array
    inner: Any


def delay(rule: NormRule, delay: int | None, initial: Scalar = 1.0) -> NormRule:
    """Use the factor of `delay` steps ago, so that it does not depend on the current gradient.

    Steps whose norm is zero or not finite do not count. The memory is one number a step and block.

    Args:
      rule: Whose factor to delay.
      delay: Number of steps, a concrete integer of at least 0; None or 0 is no delay.
      initial: The factor of the first `delay` steps.

    Returns:
      A `NormRule`. Thresholds pass undelayed.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> lagging = clipax.norms.delay(clipax.norms.normalize(eps=0.0), 1, initial=1.0)
      >>> state, context = lagging.init(()), clipax.thresholds.Context(count=jnp.array(0))
      >>> for norm in (2.0, 4.0):
      ...     decision, state = lagging.update(jnp.array(norm), state, context)
      ...     print(decision.factor)
      1.0
      0.5
    """
    if not isinstance(rule, NormRule):
        raise TypeError(
            f"`rule` must be made by `clipax.norms`, got {rule!r}; `clipax.delay_updates` delays a "
            f"transformation."
        )
    _validate.non_negative("initial", initial)
    return delay_factors(rule, delay, initial, counts_zeros=False)


def delay_factors(
    rule: NormRule, delay: int | None, initial: Scalar, *, counts_zeros: bool
) -> NormRule:
    """Delay as `delay` does; the factor of a zero norm counts only where it is made to be used.

    That of a stepsize is, as its formula wants; that of `normalize` may be zero or huge.
    """
    steps = _validate.optional_index("delay", delay)
    if steps == 0:
        return rule

    def init(shape: tuple[int, ...]) -> DelayState:
        first = jnp.broadcast_to(jnp.asarray(initial, float), (*shape, steps))
        return DelayState(first, rule.init(shape))

    def update(norms: Array, state: DelayState, context: Context) -> tuple[Decision, DelayState]:
        decision, inner = rule.update(norms, state.inner, context)
        # A handful of numbers: shifting them all costs no more than a ring, and needs no position.
        newest = decision.factor[..., None]
        factors = jnp.concatenate([state.factors[..., 1:], newest], axis=-1)
        if not counts_zeros:
            factors = keep_rows(is_seen(norms), factors, state.factors)
        return decision._replace(factor=state.factors[..., 0]), DelayState(factors, inner)

    return NormRule(init, update, rule.needs_params)
