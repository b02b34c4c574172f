"""Factors that lag behind the gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from clipax import _validate
from clipax._typing import Array, Scalar
from clipax.norms._base import Decision, NormRule
from clipax.thresholds import Context

__all__ = ["delay"]


class DelayState(NamedTuple):
    """The factors of the last steps, oldest first, and the state of what is delayed."""

    factors: Array
    inner: Any


def delay(transformation: NormRule, delay: int | None, initial: Scalar = 1.0) -> NormRule:
    """Uses the factor of `delay` steps ago, so that it does not depend on the current gradient.

    Steps whose norm is not finite do not count. The memory is one number a step and block.

    Args:
      transformation: Whose factor to delay.
      delay: Number of steps, at least 0; None or 0 is no delay.
      initial: The factor of the first `delay` steps.

    Returns:
      A transformation of norms. Thresholds pass undelayed.

    Raises:
      TypeError: `delay` is not a concrete integer.
      ValueError: `delay` is negative.

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
    steps = _validate.optional_index("delay", delay)
    if steps == 0:
        return transformation

    def init(shape: tuple[int, ...]) -> DelayState:
        first = jnp.broadcast_to(jnp.asarray(initial, float), (*shape, steps))
        return DelayState(first, transformation.init(shape))

    def update(norms: Array, state: DelayState, context: Context) -> tuple[Decision, DelayState]:
        decision, inner = transformation.update(norms, state.inner, context)
        # A handful of numbers: shifting them all is as cheap as a ring and has no position.
        newest = decision.factor[..., None]
        factors = jnp.concatenate([state.factors[..., 1:], newest], axis=-1)
        return decision._replace(factor=state.factors[..., 0]), DelayState(factors, inner)

    return NormRule(init, update, transformation.needs_params)
