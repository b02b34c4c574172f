"""The pair of pure functions that every rule on norms is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from clipax import _validate
from clipax._typing import Array
from clipax.thresholds import Context

__all__ = ["Decision", "NormRule", "raise_zeros", "scale_norms"]


class Decision(NamedTuple):
    """The factors for blocks of the given norms.

    Attributes:
      factor: Multiplies each block; not negative. The update of a block whose factor
        is negative or not a number is zero.
      threshold: The norm above which the block counts as clipped, in units of the measured norm;
        infinite where nothing clips.
    """

    factor: Array
    threshold: Array


class _NormRule(NamedTuple):
    init: Callable[[tuple[int, ...]], Any]
    update: Callable[[Array, Any, Context], tuple[Decision, Any]]
    needs_params: bool = False
    never_amplifies: bool = False


class NormRule(_NormRule):
    """The twin of `optax.GradientTransformation` on norms.

    Both functions work elementwise on an array of norms of any shape, and only ever see finite
    norms. Every array in the state has the norms' shape as its leading shape, ring positions and
    counters included: the caller keeps the old rows where a norm is not finite.

    Attributes:
      init: From the shape of the norms to a state.
      update: From `(norms, state, context)` to `(decision, state)`.
      needs_params: Whether `context.param_norms` is used.
      never_amplifies: Whether no factor exceeds 1: then no entry can overflow a narrow dtype, and
        the clamp at its largest number is left out.
    """

    __slots__ = ()

    def __new__(
        cls,
        init: Callable[[tuple[int, ...]], Any],
        update: Callable[[Array, Any, Context], tuple[Decision, Any]],
        needs_params: bool = False,
        never_amplifies: bool = False,
    ) -> NormRule:
        """Make one whose `init` says so where it is given parameters, as in `optax.chain`."""
        init = _validate.shapes_only(init, "rule on norms")
        return super().__new__(cls, init, update, needs_params, never_amplifies)


def scale_norms(decision: Decision, norms: Array) -> Array:
    """Compute the norms that a decision leaves for the next rule, which sees finite ones only."""
    return jnp.minimum(decision.factor * norms, jnp.finfo(norms.dtype).max)


def raise_zeros(norms: Array, context: Context) -> Array:
    """Raise norms of zero to the largest that a block has whose squares all vanish.

    Such a block is not always told from zeros (`measure`). Factors of what is raised
    are safe for both, and derivatives are as they were.
    """
    entries = 2.0**40 if context.sizes is None else context.sizes
    largest = jnp.sqrt(jnp.asarray(entries * jnp.finfo(norms.dtype).smallest_normal, norms.dtype))
    return norms + lax.stop_gradient(jnp.where(norms == 0, largest, 0))
