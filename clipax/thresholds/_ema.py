"""A threshold at a multiple of an average of the clipped norms ("AdaGC").

G. Wang, S. Li, C. Chen, J. Zeng, J. Yang, D. Yu, Y. Ma, L. Shen, "AdaGC: Improving Training
Stability for Large Language Model Pretraining", arXiv 2502.11034.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from clipax import _validate
from clipax._statistics import _moving
from clipax._typing import Array, Scalar
from clipax.thresholds._base import Context, Threshold, raise_to_normal

__all__ = ["EmaState", "ema"]


class EmaState(NamedTuple):
    """State of `ema`; each array has the shape of the norms.

    Attributes:
      average: The smallest clipped norm of the warm-up, then the average of the clipped norms; zero
        as long as there was none.
      mildest: The largest factor of the global clip among the steps of the warm-up that are
        remembered.
      steps: Number of steps with a norm, up to the length of the warm-up, int32.
    """

    average: Array
    mildest: Array
    steps: Array


def ema(
    ratio: Scalar = 1.05,
    *,
    decay: Scalar = 0.98,
    warmup: int = 100,
    absolute: Scalar = 1.0,
    floor: Scalar = 1e-3,
) -> Threshold:
    r"""Make a threshold of the average of a block's own clipped norms ("AdaGC").

    Each block may grow by a few percent a step, whatever its scale. Prefer it per leaf, where one
    array spikes and the others must not pay for it, and where norms shrink over the training.

    .. math::
        h = \min(1, r \gamma / n), \quad \gamma \leftarrow \beta \gamma + (1 - \beta)\, h n; \qquad
        \text{in warm-up: } h = \min(1, a/N), \quad \gamma \leftarrow \min(\gamma, h n)

    with :math:`n` the block's norm and :math:`N` that of all; the first step sets :math:`\gamma`.

    Args:
      ratio: The threshold over the average, :math:`r`, above 1 (else it never grows); default 1.05.
      decay: Decay rate :math:`\beta` of the average, in [0, 1); default .98.
      warmup: For how many of its steps a block is clipped with all others; from 0, default 100.
      absolute: Largest norm :math:`a` of all blocks in warm-up, infinity for no clip; default 1.
      floor: In warm-up norms below this share of the smallest so far, and steps cut to less than
        this share of what was left of another, are ignored; in [0, 1), default 1e-3. 0: only zeros.

    Returns:
      A `Threshold` with an `EmaState`: :math:`r \gamma`, or :math:`h n` where the global clip acts.

    Notes:
      - A spike enters the average as at most `ratio` times it. Zero norms are not remembered, nor
        steps of the warm-up: the paper's average would become zero and stay there.
      - Defaults are the paper's. It has no `floor`: its minimum would hold on to a gradient of
        1e-20, or to what is left of a block while another one spikes, and then grow by a thousandth
        a step. A tiny norm as the very first still holds the average down.
      - A jump for good is followed by `(1 - decay)(ratio - 1)` a step: tenfold in 2,300 steps.
      - Without a `total_norm` in the context the block's own norm counts as that of all blocks.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> threshold = clipax.thresholds.ema(1.5, decay=0.5, warmup=0)
      >>> context = clipax.thresholds.Context(jnp.array(0))
      >>> _, state = threshold.update(jnp.array(1.0), threshold.init(()), context)
      >>> now, state = threshold.update(jnp.array(9.0), state, context)  # enters as 1.5
      >>> print(now, state.average)
      1.5 1.25

    References:
      Wang et al., "AdaGC", arXiv 2502.11034, Algorithm 1.
    """
    _validate.number("ratio", ratio, "above 1 and finite", lambda value: 1 < value < float("inf"))
    _validate.open_unit("decay", decay)
    warmup = _validate.index("warmup", warmup)
    _validate.threshold("absolute", absolute)
    _validate.open_unit("floor", floor)

    def init(shape: tuple[int, ...]) -> EmaState:
        return EmaState(
            jnp.zeros(shape, float), jnp.zeros(shape, float), jnp.zeros(shape, jnp.int32)
        )

    def update(norms: Array, state: EmaState, context: Context) -> tuple[Array, EmaState]:
        dtype = state.average.dtype
        size = norms.astype(dtype)
        seen = size >= jnp.finfo(dtype).smallest_normal
        warm = (state.steps < warmup) | (state.average == 0)
        total = size if context.total_norm is None else context.total_norm.astype(dtype)
        allowed = _validate.to_float(absolute, dtype)
        together = total > allowed
        factor = jnp.where(together, allowed / jnp.where(together, total, 1), 1)
        common = jnp.where(together & seen, factor * size, jnp.maximum(size, allowed))
        relative = jnp.asarray(ratio, dtype) * state.average
        threshold = jnp.where(warm, common, relative)

        entering = jnp.minimum(size, threshold)
        _, share = _moving.weights(decay, dtype)
        later = state.average + share * (entering - state.average)
        first, mildest = track_smallest(state, entering, jnp.broadcast_to(factor, size.shape))
        average = jnp.where(warm, first, later)
        new = EmaState(
            # A subnormal average counts as zero: the next norm is then taken as the first.
            jnp.where(average < jnp.finfo(dtype).smallest_normal, 0, average),
            jnp.where(warm, mildest, state.mildest),
            jnp.minimum(state.steps + 1, warmup),
        )
        state = jax.tree.map(lambda now, old: jnp.where(seen, now, old), new, state)
        return raise_to_normal(threshold.astype(norms.dtype)), state

    def track_smallest(state: EmaState, entering: Array, factor: Array) -> tuple[Array, Array]:
        """Update the smallest norm and the mildest factor of the warm-up, by ordinary steps."""
        share = jnp.asarray(floor, entering.dtype)
        # Begin anew at the first step, and at the first that the global clip leaves a real length.
        anew = (state.average == 0) | (state.mildest < share * factor)
        ordinary = (factor >= share * state.mildest) & (entering >= share * state.average)
        average = jnp.where(ordinary, jnp.minimum(state.average, entering), state.average)
        mildest = jnp.where(ordinary, jnp.maximum(state.mildest, factor), state.mildest)
        return jnp.where(anew, entering, average), jnp.where(anew, factor, mildest)

    return Threshold(init, update)
