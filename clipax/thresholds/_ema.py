"""A threshold at a multiple of an average of the clipped norms ("AdaGC").

G. Wang, S. Li, C. Chen, J. Zeng, J. Yang, D. Yu, Y. Ma, L. Shen, "AdaGC: Improving Training
Stability for Large Language Model Pretraining", arXiv 2502.11034.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from clipax import _validate
from clipax._statistics import _window
from clipax._typing import Array, Scalar
from clipax.thresholds._base import Context, Threshold

__all__ = ["EmaNormState", "ema"]


class EmaNormState(NamedTuple):
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
    r"""Makes a clipping threshold of the average of a block's own clipped norms ("AdaGC").

    Each block may grow by a few percent a step, whatever its scale. Prefer it per leaf, where one
    array spikes and the others must not pay for it, and where norms shrink over the training.

    .. math::
        h = \min\Bigl(1, \frac{r \gamma}{n}\Bigr), \qquad
        \gamma \leftarrow \beta \gamma + (1 - \beta)\, h n

    .. math::
        h = \min\Bigl(1, \frac{a}{N}\Bigr), \qquad \gamma \leftarrow \min(\gamma, h n)
        \qquad \text{in warm-up}

    with :math:`r` the `ratio`, :math:`\beta` the `decay`, :math:`a` the `absolute`, :math:`n` the
    norm of the block and :math:`N` that of all blocks together. The first step sets :math:`\gamma`.

    Args:
      ratio: The threshold in units of the average, above 1 and finite; default 1.05 (paper). With 1
        or less the average could never grow again.
      decay: Decay rate of the average, in [0, 1); default .98 (paper).
      warmup: For how many steps all blocks are clipped together, at least 0; default 100 (paper).
      absolute: The largest norm of all blocks together in warm-up, positive, infinity for no clip;
        default 1 (paper).
      floor: What the warm-up remembers, in [0, 1): neither a norm below this share of the smallest
        so far, nor a step that the global clip cuts down to less than this share of what it left of
        another; default 1e-3. 0: everything but zero.

    Returns:
      A `Threshold` with an `EmaNormState`: where clipping begins; in warm-up, where the global clip
      acts, what the block is cut to.

    Guarantees:
      A spike enters the average as at most `ratio` times what that was. One zero gradient, or one
      spike of another block, does not freeze a block, whenever it comes.

    Edge cases:
      =========================== =====================================================
      input                       result
      =========================== =====================================================
      warm-up                     one factor for all blocks
      zero norm                   not remembered, and no step of the warm-up
      no norm but zeros so far    as in warm-up
      a tiny norm as the first    holds the average down, as in the paper
      no `total_norm` known       the block's own norm counts as that of all blocks
      norms that jump for good    followed by at most `(1 - decay)(ratio - 1)` a step: ten
                                  times the norm takes 2,300 steps
      NaN or infinite norm        the step is not remembered
      =========================== =====================================================

    Sharding:
      Elementwise on norms; no communication.

    Raises:
      TypeError: An argument is no number, or `warmup` not a concrete integer (`static_args` of
        `optax.inject_hyperparams`).
      ValueError: `ratio` not above 1 or not finite, `decay` or `floor` outside [0, 1), `warmup`
        negative, `absolute` not positive.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> threshold = clipax.thresholds.ema(1.5, decay=0.5, warmup=1)
      >>> context = clipax.thresholds.Context(jnp.array(0), total_norm=jnp.array(2.0))
      >>> state = threshold.init(())
      >>> for norm in (1.6, 1.0, 1.0):  # the first is half of its own norm, by the global clip
      ...     now, state = threshold.update(jnp.array(norm), state, context)
      ...     print(f"{now:.2f} {state.average:.2f}")
      0.80 0.80
      1.20 0.90
      1.35 0.95

    References:
      G. Wang, S. Li, C. Chen, J. Zeng, J. Yang, D. Yu, Y. Ma, L. Shen, "AdaGC: Improving Training
      Stability for Large Language Model Pretraining", arXiv 2502.11034, Algorithm 1.

    Differences from the paper:
      Zero norms are not remembered, neither in warm-up nor later: the paper's average would be zero
      and stay there. Nor are norms in warm-up that the `floor` finds far from ordinary: the paper's
      minimum would hold on to a gradient of 1e-20, or to what a global clip leaves of a block while
      another one spikes, and then grow by a thousandth a step. The warm-up counts a block's own
      steps.
    """
    _validate.number("ratio", ratio, "above 1 and finite", lambda value: 1 < value < float("inf"))
    _validate.open_unit("decay", decay)
    warmup = _validate.index("warmup", warmup)
    _validate.threshold("absolute", absolute)
    _validate.open_unit("floor", floor)

    def init(shape: tuple[int, ...]) -> EmaNormState:
        return EmaNormState(
            jnp.zeros(shape, float), jnp.zeros(shape, float), jnp.zeros(shape, jnp.int32)
        )

    def update(norms: Array, state: EmaNormState, context: Context) -> tuple[Array, EmaNormState]:
        dtype = state.average.dtype
        size = norms.astype(dtype)
        seen = size >= jnp.finfo(dtype).smallest_normal
        warm = (state.steps < warmup) | (state.average == 0)
        total = size if context.total_norm is None else context.total_norm.astype(dtype)
        allowed = jnp.asarray(absolute, dtype)
        together = total > allowed
        factor = jnp.where(together, allowed / jnp.where(together, total, 1), 1)
        common = jnp.where(together & seen, factor * size, jnp.maximum(size, allowed))
        own = jnp.asarray(ratio, dtype) * state.average
        threshold = jnp.where(warm, common, own)

        entering = jnp.minimum(size, threshold)
        # 1 - decay before rounding to float32, where .999 would cost it four digits.
        later = state.average + jnp.asarray(1 - decay, dtype) * (entering - state.average)
        first, mildest = _smallest(state, entering, jnp.broadcast_to(factor, size.shape))
        average = jnp.where(warm, first, later)
        new = EmaNormState(
            # What is below the smallest normal number is zero: then the next norm is the first.
            jnp.where(average < jnp.finfo(dtype).smallest_normal, 0, average),
            jnp.where(warm, mildest, state.mildest),
            jnp.minimum(state.steps + 1, warmup),
        )
        state = jax.tree.map(lambda now, old: jnp.where(seen, now, old), new, state)
        return _window.floored(threshold.astype(norms.dtype)), state

    def _smallest(state: EmaNormState, entering: Array, factor: Array) -> tuple[Array, Array]:
        """The smallest norm of the warm-up and the mildest factor, without the extraordinary."""
        share = jnp.asarray(floor, entering.dtype)
        # The first of all, or the first that the global clip does not cut down to nothing.
        anew = (state.average == 0) | (state.mildest < share * factor)
        ordinary = (factor >= share * state.mildest) & (entering >= share * state.average)
        average = jnp.where(ordinary, jnp.minimum(state.average, entering), state.average)
        mildest = jnp.where(ordinary, jnp.maximum(state.mildest, factor), state.mildest)
        return jnp.where(anew, entering, average), jnp.where(anew, factor, mildest)

    return Threshold(init, update)
