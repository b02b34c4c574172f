"""A threshold some standard deviations above the mean of the last norms.

The rule by which OLMo-core, Levanter and MaxText skip steps; there is no paper.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from clipax import _validate
from clipax._export import exportable
from clipax._typing import Array, Scalar
from clipax.thresholds._base import Context, Threshold, keep_rows

__all__ = ["DeviationState", "deviation"]


@exportable
class DeviationState(NamedTuple):
    """State of `deviation`; each array's leading shape is that of the norms.

    Attributes:
      last: A ring of the last norms, spikes cut; one more axis than the norms have.
      position: Where in the ring the next norm goes, int32.
      filled: How many norms the ring holds, int32.
    """

    last: Array
    position: Array
    filled: Array


def deviation(
    sigmas: Scalar = 6.0,
    *,
    window: int = _validate.fixed_size(128),
    floor: Scalar = 1e-3,
) -> Threshold:
    """Make a threshold some standard deviations above the mean of the last norms.

    Three trainers of language models skip steps by it: prefer it in `skip_spikes`, for the norm or
    for the loss, which may have either sign.

        c_t = mu_t + k max(sigma_t, phi |mu_t|)

    with mean and standard deviation of the `S` norms before; infinite until half are there.

    Args:
      sigmas: How many standard deviations, `k`; positive and finite, default 6.
      window: How many norms are remembered, `S`, an integer of at least 2; default 128.
      floor: Least deviation in units of the mean, `phi`; non-negative, default 1e-3.

    Returns:
      A `Threshold` with a `DeviationState`, `window` numbers a block.

    Notes:
      - A spike enters the window as the limit (one of the first `window/2` as it is). The trainers
        let it in whole, and pass others of up to half its size for `window` steps. After a tenfold
        jump for good 15 to 60 norms are above the limit. The floor is ours, for equal norms.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> threshold = clipax.thresholds.deviation(3.0, window=4)
      >>> state, context = threshold.init(()), clipax.thresholds.Context(jnp.array(0))
      >>> for norm in (3.0, 5.0, 100.0):  # mean 4, deviation the root of 2
      ...     now, state = threshold.update(jnp.array(norm), state, context)
      >>> print(f"{now:.3f}")
      8.243

    References:
      OLMo-core (skips low values too), Levanter and MaxText, "skip step"; no paper.
    """
    _validate.positive("sigmas", sigmas)
    window = _validate.index("window", window, minimum=2)
    _validate.non_negative("floor", floor)

    def init(shape: tuple[int, ...]) -> DeviationState:
        position, filled = (jnp.zeros(shape, jnp.int32) for _ in range(2))
        return DeviationState(jnp.zeros((*shape, window), float), position, filled)

    def update(
        norms: Array, state: DeviationState, context: Context
    ) -> tuple[Array, DeviationState]:
        dtype = state.last.dtype
        size = norms.astype(dtype)
        limit = read(state)
        # Losses may be negative; a zero says nothing.
        seen = jnp.abs(norms) >= jnp.finfo(norms.dtype).smallest_normal
        here = jnp.arange(window, dtype=jnp.int32) == state.position[..., None]
        entering = jnp.minimum(size, limit)
        new = DeviationState(
            jnp.where(here, entering[..., None], state.last),
            (state.position + 1) % window,
            jnp.minimum(state.filled + 1, window),
        )
        return limit.astype(norms.dtype), keep_rows(seen, new, state)

    def read(state: DeviationState) -> Array:
        info = jnp.finfo(state.last.dtype)
        held = jnp.arange(window, dtype=jnp.int32) < state.filled[..., None]
        # In units of the largest, so that neither sums nor squares overflow. Empty places are zero.
        unit = jnp.max(jnp.abs(state.last), axis=-1)
        unit = jnp.where(unit > 0, unit, 1)
        relative = state.last / unit[..., None]
        count = jnp.maximum(state.filled, 2).astype(info.dtype)
        mean = jnp.sum(relative, axis=-1) / count
        away = jnp.where(held, relative - mean[..., None], 0)
        spread = jnp.sqrt(jnp.maximum(jnp.sum(away**2, axis=-1), info.tiny) / (count - 1))
        least = _validate.to_float(floor, info.dtype) * jnp.abs(mean)
        times = _validate.to_float(sigmas, info.dtype)
        limit = jnp.minimum(unit * (mean + times * jnp.maximum(spread, least)), info.max)
        limit = jnp.where(jnp.abs(limit) < info.smallest_normal, info.smallest_normal, limit)
        return jnp.where(state.filled < max(2, window // 2), jnp.inf, limit)

    return Threshold(init, update, keeps_zeros_out=True)
