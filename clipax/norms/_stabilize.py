"""Norms evened out by their own statistics.

T. Huang et al., "GradientStabilizer: Fix the Norm, Not the Gradient", arXiv 2502.17055v3.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax import lax

from clipax import _validate
from clipax._export import exportable
from clipax._statistics._moving import hypot, weigh_newest
from clipax._typing import Array, Scalar
from clipax.norms._base import Decision, NormRule
from clipax.thresholds import Context
from clipax.thresholds._base import is_seen, keep_rows

__all__ = ["StabilizeState", "stabilize"]


@exportable
class StabilizeState(NamedTuple):
    """State of `stabilize`; arrays of the norms' shape.

    Attributes:
      steps: Number of steps that counted, with a norm other than zero, int32.
      mean: Average of the norms, with bias correction.
      size: Root of the average of their squares, with bias correction.
    """

    steps: Array
    mean: Array
    size: Array


def stabilize(
    *, norm_decay: Scalar = 0.7, square_decay: Scalar = 0.9, eps: Scalar = 1e-8
) -> NormRule:
    """Give every block the length of its average norm over its root mean square norm.

    1 where norms are steady, then at most 1.2 for a spike of any size (GradientStabilizer). Prefer
    it per leaf in very low precision; there is no threshold.

        f = (m/n)/(sqrt(v) + epsilon),  m = ema(n),  v = ema(n^2)

    Args:
      norm_decay: Decay rate of the average norm `m`, in [0, 1); default .7.
      square_decay: Decay rate of the average squared norm `v`, in [0, 1); default .9.
      eps: `epsilon`, non-negative; default 1e-8.

    Returns:
      A `NormRule` with a `StabilizeState`. Nothing counts as clipped.

    Notes:
      - Averages have bias correction and leave zeros out. `stable_spam` is Adam behind it.
      - A spike stays in the root mean square, which falls by a twentieth a step: after one of a
        million times the usual norm, gradients count for less than half for 230 steps.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> rule = clipax.norms.stabilize(norm_decay=0.0, square_decay=0.5)
      >>> state, context = rule.init(()), clipax.thresholds.Context(count=jnp.array(0))
      >>> for norm in (3.0, 4.0):
      ...     decision, state = rule.update(jnp.array(norm), state, context)
      >>> print(f"{decision.factor * 4:.4f}")  # 4 over the root of (9/2 + 16)/(3/2)
      1.0820

    References:
      Huang et al., "GradientStabilizer: Fix the Norm, Not the Gradient", arXiv 2502.17055v3.
    """
    _validate.open_unit("norm_decay", norm_decay)
    _validate.open_unit("square_decay", square_decay)
    _validate.non_negative("eps", eps)

    def init(shape: tuple[int, ...]) -> StabilizeState:
        zeros = (jnp.zeros(shape, float) for _ in range(2))
        return StabilizeState(jnp.zeros(shape, jnp.int32), *zeros)

    def update(
        norms: Array, state: StabilizeState, context: Context
    ) -> tuple[Decision, StabilizeState]:
        dtype = norms.dtype
        weight = weigh_newest(norm_decay, state.steps, dtype)
        mean = state.mean + weight * (norms - state.mean)
        weight = weigh_newest(square_decay, state.steps, dtype)
        scale = hypot(jnp.sqrt(jnp.maximum(1 - weight, 0)) * state.size, jnp.sqrt(weight) * norms)
        # A zero gradient has no direction.
        seen = is_seen(norms)
        divisor = jnp.where(seen, scale + jnp.asarray(eps, dtype), 1)
        # Behind a barrier: XLA would turn two divisions into one by a product, which overflows.
        size = lax.optimization_barrier(mean / divisor)
        factor = jnp.where(seen, size / jnp.where(seen, norms, 1), 0)
        never = jnp.full_like(norms, jnp.inf)
        new = StabilizeState(optax.safe_increment(state.steps), mean, scale)
        return Decision(factor, never), keep_rows(seen, new, state)

    return NormRule(init, update)
