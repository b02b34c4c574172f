"""A threshold at a multiple of an average of the clipped norms ("AdaGC").

G. Wang, S. Li, C. Chen, J. Zeng, J. Yang, D. Yu, Y. Ma, L. Shen, "AdaGC: Enhancing LLM Pretraining
Stability via Adaptive Gradient Clipping", ICML 2026, arXiv 2502.11034v3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from clipax import _validate
from clipax._export import exportable
from clipax._statistics import _moving
from clipax._typing import Array, Scalar
from clipax.thresholds._base import Context, Threshold, is_seen, raise_to_normal

__all__ = ["EmaState", "ema"]


@exportable
class EmaState(NamedTuple):
    """State of `ema`; each array has the shape of the norms.

    Attributes:
      average: The smallest clipped norm of the warm-up, then the average of the clipped norms; zero
        as long as there was none.
      votes: In warm-up, the number of norms of the size of the average less those far from it since
        it was last replaced, int32.
      steps: Number of steps with a norm, up to the length of the warm-up, int32.
    """

    average: Array
    votes: Array
    steps: Array


def ema(
    ratio: Scalar = 1.05,
    *,
    decay: Scalar = 0.98,
    warmup: int = 100,
    absolute: Scalar = math.inf,
    floor: Scalar = 1e-3,
) -> Threshold:
    """Make a threshold of the average of a block's own clipped norms ("AdaGC").

    Each block may grow by a few percent a step, whatever its scale. Prefer it per leaf, where one
    array spikes and the others must not pay for it, and where norms shrink over the training.

        h = min(1, r gamma/n),  gamma <- beta gamma + (1 - beta) h n;
        in warm-up:  h = min(1, a/N),  gamma <- min(gamma, h n)

    with `n` the block's norm and `N` that of all; the first step sets `gamma`.

    Args:
      ratio: The threshold over the average, `r`, above 1 (else it never grows); default 1.05.
      decay: Decay rate `beta` of the average, in [0, 1); default .98.
      warmup: For how many of its steps a block is clipped with all others; from 0, default 100.
      absolute: Largest norm `a` of all blocks in warm-up, positive; default infinity. Paper: 1,
        which holds the thresholds of larger gradients down for long.
      floor: In warm-up norms further than this from the smallest so far, below this share of it or
        above its multiple, do not count unless they are the majority; in [0, 1), default 1e-3.

    Returns:
      A `Threshold` with an `EmaState`: `r gamma`, or `h n` where the global clip acts.

    Notes:
      - A spike enters the average as at most `ratio` times it. A zero, which is not remembered,
        would hold the paper's average at zero.
      - The other defaults are the paper's. It has no `floor` (0): its minimum would hold on to a
        gradient of 1e-20, or to what is left of a block while another one spikes, and then grow by
        a thousandth a step. Without a warm-up the very first norm, whatever it is, does the same.
      - A jump for good is followed by `(1 - decay)(ratio - 1)` a step: tenfold in 2,300 steps.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> threshold = clipax.thresholds.ema(1.5, decay=0.5, warmup=0)
      >>> context = clipax.thresholds.Context(jnp.array(0))
      >>> _, state = threshold.update(jnp.array(1.0), threshold.init(()), context)
      >>> now, state = threshold.update(jnp.array(9.0), state, context)  # enters as 1.5
      >>> print(now, state.average)
      1.5 1.25

    References:
      Wang et al., "AdaGC: Enhancing LLM ...", ICML 2026, arXiv 2502.11034v3, Algorithm 1.
    """
    _validate.number("ratio", ratio, "above 1 and finite", lambda value: 1 < value < float("inf"))
    _validate.open_unit("decay", decay)
    warmup = _validate.integer("warmup", warmup)
    _validate.threshold("absolute", absolute)
    _validate.open_unit("floor", floor)

    def init(shape: tuple[int, ...]) -> EmaState:
        return EmaState(
            jnp.zeros(shape, float), jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.int32)
        )

    def update(norms: Array, state: EmaState, context: Context) -> tuple[Array, EmaState]:
        dtype = state.average.dtype
        size = norms.astype(dtype)
        seen = is_seen(norms)
        warm = (state.steps < warmup) | (state.average == 0)
        total = size if context.total_norm is None else context.total_norm.astype(dtype)
        allowed = _validate.to_float(absolute, dtype)
        together = total > allowed
        factor = jnp.where(together, allowed / jnp.where(together, total, 1), 1)
        common = jnp.where(together & seen, factor * size, jnp.maximum(size, allowed))
        relative = _validate.to_float(ratio, dtype) * state.average
        threshold = jnp.where(warm, common, relative)

        entering = jnp.minimum(size, threshold)
        _, share = _moving.weights(decay, dtype)
        later = state.average + share * (entering - state.average)
        first, votes = track_smallest(state, entering)
        average = jnp.where(warm, first, later)
        new = EmaState(
            # A subnormal average counts as zero: the next norm is then taken as the first.
            jnp.where(average < jnp.finfo(dtype).smallest_normal, 0, average),
            jnp.where(warm, votes, state.votes),
            jnp.minimum(state.steps + 1, warmup),
        )
        state = jax.tree.map(lambda now, old: jnp.where(seen, now, old), new, state)
        return raise_to_normal(threshold.astype(norms.dtype)), state

    def track_smallest(state: EmaState, entering: Array) -> tuple[Array, Array]:
        """Update the smallest norm of the warm-up, and its votes.

        The first norm may be a spike, or what a spike of another block left: the majority decides.
        """
        share = _validate.to_float(floor, entering.dtype)
        far = (entering < share * state.average) | (share * entering > state.average)
        anew = (state.average == 0) | (far & (state.votes <= 1))
        average = jnp.where(far, state.average, jnp.minimum(state.average, entering))
        votes = state.votes + jnp.where(far, -1, 1)
        return jnp.where(anew, entering, average), jnp.where(anew, 1, votes)

    return Threshold(init, update, keeps_zeros_out=True)
