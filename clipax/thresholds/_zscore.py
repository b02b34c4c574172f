"""A threshold at a z-score of the norms ("ZClip").

A. Kumar, L. Owen, N. R. Chowdhury, F. Güra, "ZClip: Adaptive Spike Mitigation for LLM
Pre-Training", arXiv 2504.02507.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from clipax import _validate
from clipax._export import exportable
from clipax._statistics import _moving
from clipax._typing import Array, Scalar
from clipax.thresholds._base import Context, Threshold, is_seen, keep_rows, raise_to_normal

__all__ = ["ZscoreState", "zscore"]


@exportable
class ZscoreState(NamedTuple):
    """State of `zscore`; each array has the shape of the norms.

    Attributes:
      mean: Mean of the norms: of all in warm-up, a moving average afterwards.
      deviation: Their standard deviation, likewise.
      steps: Number of norms remembered, up to the length of the warm-up, int32.
      was_low: Whether the last norm was far below the mean, and is not remembered: 1 or 0, int32.
    """

    mean: Array
    deviation: Array
    steps: Array
    was_low: Array


def zscore(
    z: Scalar = 2.5,
    *,
    decay: Scalar = 0.97,
    warmup: int = 25,
    cut_to: str = "adaptive",
    max_norm: Scalar | None = None,
    eps: Scalar = 1e-6,
    floor: Scalar = 0.02,
    restart: Scalar = 1e-2,
) -> Threshold:
    """Make a threshold of a z-score of the norms ("ZClip").

    Only spikes are cut: norms many standard deviations above a moving average, at any scale. Prefer
    it in long trainings whose gradient norm wanders slowly.

        z_t = (n_t - mu)/(sigma + epsilon),
        n*_t = n_t  if z_t <= z,  else mu + (z^2/z_t) sigma,
        mu <- alpha mu + (1 - alpha) n*_t,
        sigma^2 <- alpha sigma^2 + (1 - alpha) (n*_t - mu)^2

    The norm is tested against the statistics before it; the variance is around the new mean. They
    start as mean and (population) variance of the first `warmup` norms.

    Args:
      z: The largest z-score that passes, positive and finite; default 2.5 (paper).
      decay: Decay rate `alpha` of both averages, in [0, 1); default .97 (paper).
      warmup: From how many (untested) norms the statistics start, at least 1; default 25 (authors).
      cut_to: The norm `n*_t` of a spike: `"adaptive"` (default, paper), the further out, the closer
        to the mean, as above; `"hard"`, `mu + z sigma`; or `"mean"`, `mu`.
      max_norm: A constant cap on every norm, positive, in warm-up too; None (default): none.
      eps: Non-negative `epsilon`, added to the deviation in the z-score; default 1e-6.
      floor: Least `sigma` in units of `mu`; non-negative, default .02 (paper: 0).
      restart: Two norms in a row below this share of the mean reset all; in [0, 1), default .01
        (paper: 0). One alone is not remembered. In warm-up one as far above the mean resets too.

    Returns:
      A `Threshold` with a `ZscoreState`: where clipping begins, or of a spike `n*_t`.

    Notes:
      - The standard deviation is kept, not its square: norms of 1e30 do not overflow.
      - Without the floor the deviation of constant norms falls to zero, and every larger norm is
        cut to the mean and never learned. With it, after a thousand constant norms, those within a
        fifth pass again after 50 steps (`"mean"`: 100).
      - A spike in warm-up of up to 100 times the norms lets others pass for some 100 steps. Beyond,
        the restart drops it (the paper's is blind for thousands); then `warmup` norms pass.
      - After a jump for good `"hard"` follows in some tens of steps; the others cut for thousands.
      - As in the authors' code (there 1), `max_norm` limits the update, not what the statistics
        take in. Their factor on the threshold, and leaving spikes out of the statistics, are not
        here. `"hard"` is their mode "percentile", with `eps` in the test.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> threshold = clipax.thresholds.zscore(2.0, warmup=2, eps=0.0)
      >>> context, state = clipax.thresholds.Context(jnp.array(0)), threshold.init(())
      >>> for norm in (3.0, 5.0, 12.0):  # mean 4, deviation 1: a z-score of 8
      ...     now, state = threshold.update(jnp.array(norm), state, context)
      >>> print(now)
      4.5

    References:
      Kumar, Owen, Chowdhury, Güra, "ZClip", arXiv 2504.02507, with the authors' code.
    """
    _validate.positive("z", z)
    _validate.open_unit("decay", decay)
    warmup = _validate.integer("warmup", warmup, minimum=1)
    _validate.one_of("cut_to", cut_to, ("adaptive", "hard", "mean"))
    if max_norm is not None:
        _validate.threshold("max_norm", max_norm)
    _validate.non_negative("eps", eps)
    _validate.non_negative("floor", floor)
    _validate.open_unit("restart", restart)

    def init(shape: tuple[int, ...]) -> ZscoreState:
        mean, deviation = (jnp.zeros(shape, float) for _ in range(2))
        steps, low = (jnp.zeros(shape, jnp.int32) for _ in range(2))
        return ZscoreState(mean, deviation, steps, low)

    def update(norms: Array, state: ZscoreState, context: Context) -> tuple[Array, ZscoreState]:
        dtype = state.mean.dtype
        limit = _validate.to_float(z, dtype)
        size = norms.astype(dtype)
        seen = is_seen(norms)
        share = _validate.to_float(restart, dtype)
        low = seen & (size < share * state.mean)
        # Before the warm-up ends nothing is cut: the first norms may be what is far from ordinary.
        high = (state.steps < warmup) & (state.steps > 0) & (share * size > state.mean)
        alone = low & (state.was_low == 0)
        before = state._replace(was_low=jnp.where(seen, alone.astype(jnp.int32), state.was_low))
        state = keep_rows((low & ~alone) | high, init(size.shape), before)
        warm = state.steps < warmup
        deviation = jnp.maximum(state.deviation, _validate.to_float(floor, dtype) * state.mean)
        wide = deviation + _validate.to_float(eps, dtype)
        begins = jnp.where(warm, jnp.inf, state.mean + limit * wide)
        spike = size > begins
        away = jnp.where(spike, size - state.mean, 1)
        cut = {
            "adaptive": state.mean + limit * (limit * (wide / away)) * deviation,
            "hard": state.mean + limit * deviation,
            "mean": state.mean,
        }[cut_to]
        entering = jnp.where(spike, cut, size)
        threshold = jnp.where(spike, cut, begins)
        if max_norm is not None:
            threshold = jnp.minimum(threshold, _validate.to_float(max_norm, dtype))
        new = remember(state, entering, warm)
        return raise_to_normal(threshold.astype(norms.dtype)), keep_rows(seen & ~alone, new, before)

    def remember(state: ZscoreState, entering: Array, warm: Array) -> ZscoreState:
        dtype = state.mean.dtype
        steps = jnp.minimum(state.steps + 1, warmup)
        old, new = _moving.weights(decay, dtype)
        # The weight of the new norm, and 1 minus it: equal weights in warm-up.
        share = 1 / steps.astype(dtype)
        weight = jnp.where(warm, share, new)
        rest = jnp.where(warm, (steps - 1).astype(dtype) * share, old)
        away = entering - state.mean
        # In warm-up the variance of all norms so far, then that around the new mean.
        added = jnp.sqrt(jnp.where(warm, weight, weight * rest)) * away
        spread = jnp.sqrt(rest) * _moving.hypot(state.deviation, jnp.abs(added))
        largest = jnp.finfo(dtype).max
        mean = state.mean + weight * away
        return ZscoreState(mean, jnp.minimum(spread, largest), steps, state.was_low)

    return Threshold(init, update, keeps_zeros_out=True)
