"""Norms brought into a band around their average, from above and from below.

Z. Li, Y. Wu, Y. Chang, "AGGC: Adaptive Group Gradient Clipping for Stabilizing Large Language Model
Training", Findings of ACL 2026, arXiv 2601.11864; S. R. Dubey, S. K. Singh, B. B. Chaudhuri,
"AdaNorm: Adaptive Gradient Norm Correction Based Optimizer for CNNs", WACV 2023, arXiv 2210.06364.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
import optax

from clipax import _validate
from clipax._export import exportable
from clipax._statistics._moving import weigh_newest
from clipax._typing import Array, Scalar, ScalarOrSchedule
from clipax.norms._base import Decision, NormRule
from clipax.thresholds import Context
from clipax.thresholds._base import is_seen, keep_rows, raise_to_normal

__all__ = ["BandState", "band"]


@exportable
class BandState(NamedTuple):
    """State of `band`; each array has the shape of the norms.

    Attributes:
      average: Average of the norms, spikes cut, with bias correction.
      steps: Number of norms in it, int32.
      was_far: Whether the last norm was too far from the band: below -1, above 1, else 0, int32.
    """

    average: Array
    steps: Array
    was_far: Array


def band(
    low: ScalarOrSchedule,
    high: ScalarOrSchedule,
    *,
    decay: Scalar = 0.95,
    max_factor: Scalar = 10.0,
) -> NormRule:
    """Keep norms in a band around their average: cut what is above, raise what is below.

    `band(1, inf)` raises small norms to their average (AdaNorm); `band(0.9, 1.5)`, with a scope of
    labels, bounds each group on both sides (AGGC).

        f_t = h S_{t-1}/n_t  if n_t > h S_{t-1},
        f_t = min(M, l S_t/n_t)  if n_t < l S_t,  else f_t = 1,
        S_t = ema_beta(min(n_t, h S_{t-1}))

    Args:
      low: The lower edge in units of the average, `l`, in [0, 1] (0: none), or a schedule.
      high: The upper edge likewise, `h`, above 1 (infinity: none), or a schedule.
      decay: Decay rate `beta` of the average, in [0, 1); default .95, as both papers' code.
      max_factor: Largest factor of a small norm, `M`, at least 1 and finite; default 10.

    Returns:
      A `NormRule` with a `BandState`. A block counts as clipped where `n > h S`.

    Notes:
      - Two norms in a row that even `M` does not raise into the band begin the average anew; so do
        two above `M` times it, among the first `1/(1 - beta)`: a first step may be anything.
      - The papers' averages start at zero. AdaNorm has no `M` and lets spikes in; AGGC's scripts
        have 1.1, and `h < 1`, which scales nearly every step and is refused here.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> rule = clipax.norms.band(0.5, 2.0, decay=0.5)
      >>> state, context = rule.init(()), clipax.thresholds.Context(count=jnp.array(0))
      >>> for norm in (3.0, 9.0, 1.0):  # 9 is cut to 6
      ...     decision, state = rule.update(jnp.array(norm), state, context)
      >>> print(f"{decision.factor * norm:.3f}")  # half of the average of 3, 6 and 1
      1.357

    References:
      Li et al., "AGGC", arXiv 2601.11864; Dubey et al., "AdaNorm", arXiv 2210.06364.
    """
    if callable(low):
        _validate.schedule("low", low)
    else:
        _validate.within("low", low, 0, 1)
    if callable(high):
        _validate.schedule("high", high)
    else:
        _validate.number("high", high, "above 1", lambda edge: edge > 1)
    _validate.open_unit("decay", decay)
    _validate.number("max_factor", max_factor, "at least 1 and finite", lambda m: 1 <= m < math.inf)

    def init(shape: tuple[int, ...]) -> BandState:
        steps, far = (jnp.zeros(shape, jnp.int32) for _ in range(2))
        return BandState(jnp.zeros(shape, float), steps, far)

    def update(norms: Array, state: BandState, context: Context) -> tuple[Decision, BandState]:
        dtype = state.average.dtype
        size, seen = norms.astype(dtype), is_seen(norms)
        lower, upper = (
            _validate.to_float(edge(context.count) if callable(edge) else edge, dtype)
            for edge in (low, high)
        )
        # Schedules and traced numbers are not checked.
        lower, upper = jnp.clip(lower, 0, 1), jnp.maximum(upper, 1)
        most = _validate.to_float(max_factor, dtype)
        # The division keeps a product from overflowing.
        young = state.steps.astype(dtype) * _validate.to_float(1 - decay, dtype) < 1
        beyond = young & (state.steps > 0) & (size / most > upper * state.average)
        below = size < lower * state.average / most
        far = beyond.astype(jnp.int32) - below.astype(jnp.int32)
        anew = (far != 0) & (far == state.was_far)
        steps = jnp.where(anew, 0, state.steps)
        first = steps == 0
        limit = jnp.where(first, jnp.inf, upper * state.average)
        entering = jnp.minimum(size, limit)
        weight = weigh_newest(decay, steps, dtype)
        change = weight * (entering - state.average)
        # Of equal norms exactly that norm; after a fall by more than half no digits are left of it.
        fallen = (1 - weight) * state.average + weight * entering
        later = jnp.where(entering < state.average / 2, fallen, state.average + change)
        average = raise_to_normal(jnp.where(first, entering, later))
        floor = lower * average
        above, below = size > limit, seen & (size < floor)
        # The division last, as in `hard`; of a norm that is not too small for it.
        wanted = jnp.where(above, limit, jnp.where(below, floor, 1))
        found = jnp.where(above, size, jnp.where(below, jnp.maximum(size, floor / most), 1))
        new = BandState(average, optax.safe_increment(steps), jnp.where(anew, 0, far))
        factor = (wanted / found).astype(norms.dtype)
        decision = Decision(factor, raise_to_normal(limit).astype(norms.dtype))
        return decision, keep_rows(seen, new, state)

    return NormRule(init, update)
