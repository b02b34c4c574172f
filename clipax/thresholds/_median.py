"""A threshold at a multiple of the median of the last norms.

Z. Yao, L. Guo, X. Yang, W. Kang, F. Kuang, Y. Yang, Z. Jin, L. Lin, D. Povey, "Zipformer: A Faster
and Better Encoder for Automatic Speech Recognition", arXiv 2310.11230.
"""

from __future__ import annotations

import jax.numpy as jnp

from clipax import _validate
from clipax._statistics import _window
from clipax._statistics._window import WindowState
from clipax._typing import Array, Scalar
from clipax.thresholds._base import Context, Threshold

__all__ = ["median"]


def median(scale: Scalar = 2.0, *, window: int = 100) -> Threshold:
    r"""Makes a clipping threshold of the median of the last norms.

    Half of the norms may be anything before the median is: no spike, however large, moves it by
    more than one rank. Prefer it to averages where spikes are frequent, and to a quantile where
    ordinary steps should not be clipped at all.

    .. math:: c_t = s\, n_{(r)}, \qquad r = \lceil S_t/2 \rceil, \qquad S_t = \min(t, S)

    with :math:`s` the `scale`, :math:`n_{(r)}` the r-th smallest of the last :math:`S_t` norms, the
    current one included, :math:`S` the `window` and :math:`t` the number of this step from 1.

    Args:
      scale: The threshold in units of the median, positive and finite; default 2 (authors' code).
      window: How many norms are remembered, at least 1; default 100 (authors' code).

    Returns:
      A `Threshold` with a `WindowState`.

    Guarantees:
      The median is one of the norms in the window, exactly; of an even number, the lower one. The
      state holds norms alone, finite at all times; a norm of 1e30 is forgotten after `window`
      steps.

    Edge cases:
      =========================== ====================================================
      input                       result
      =========================== ====================================================
      first step                  `scale` times its own norm
      second step                 `scale` times the smaller of two: a spike as first
                                  norm limits nothing but its own step
      median of zero norms        the smallest positive float: next to nothing passes
      NaN or infinite norm        the step is not remembered
      =========================== ====================================================

    Sharding:
      Elementwise on norms; no communication. Twice `window` numbers a block.

    Raises:
      TypeError: `scale` is no number, or `window` not a concrete integer (`static_args` of
        `optax.inject_hyperparams`).
      ValueError: `scale` not positive or not finite, `window` below 1.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> threshold = clipax.thresholds.median(2.0, window=3)
      >>> context = clipax.thresholds.Context(count=jnp.array(0))
      >>> state = threshold.init(())
      >>> for norm in (4.0, 1.0, 2.0, 1e30):
      ...     now, state = threshold.update(jnp.array(norm), state, context)
      ...     print(now)
      8.0
      2.0
      4.0
      4.0

    References:
      Z. Yao, L. Guo, X. Yang, W. Kang, F. Kuang, Y. Yang, Z. Jin, L. Lin, D. Povey, "Zipformer: A
      Faster and Better Encoder for Automatic Speech Recognition", arXiv 2310.11230, with the
      authors' code.

    Differences from the paper:
      The paper does not describe the clip of its optimizer; it is that of the authors' code. There
      norms are measured with each tensor in units of its parameters' root mean square, the upper
      median is taken, once in `window` steps, and nothing is clipped in the first window. Here
      norms are plain, and the median is that of the last norms at every step.
    """
    _validate.positive("scale", scale)
    window = _validate.index("window", window, minimum=1)

    def init(shape: tuple[int, ...]) -> WindowState:
        return _window.first(shape, window)

    def update(norms: Array, state: WindowState, context: Context) -> tuple[Array, WindowState]:
        state = _window.pushed(state, norms)
        middle = _window.order_statistic(state, (state.filled + 1) // 2)
        return _window.floored(
            (jnp.asarray(scale, middle.dtype) * middle).astype(norms.dtype)
        ), state

    return Threshold(init, update)
