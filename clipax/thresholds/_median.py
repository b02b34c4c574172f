"""A threshold at a multiple of the median of the last norms.

Z. Yao, L. Guo, X. Yang, W. Kang, F. Kuang, Y. Yang, Z. Jin, L. Lin, D. Povey, "Zipformer: A Faster
and Better Encoder for Automatic Speech Recognition", arXiv 2310.11230.
"""

from __future__ import annotations

from clipax import _validate
from clipax._statistics import _window
from clipax._statistics._window import WindowState
from clipax._typing import Array, Scalar
from clipax.thresholds._base import Context, Threshold, follow_norms

__all__ = ["median"]


def median(scale: Scalar = 2.0, *, window: int = _validate.fixed_size(100)) -> Threshold:
    """Make a threshold of the median of the last norms.

    No spike moves it by more than a rank, and half of the norms may be spikes. Prefer it to
    averages where spikes are frequent, to a quantile where ordinary steps should not be clipped.

        c_t = s n_{(r)},  r = ceil(S_t/2),  S_t = min(t, S)

    with `n_{(r)}` the r-th smallest of the last `S_t` norms, up to the `t`-th.

    Args:
      scale: The threshold in units of the median, `s`, positive and finite; default 2.
      window: How many norms are remembered, `S`, an integer of at least 1; default 100.

    Returns:
      A `Threshold` with a `WindowState`, twice `window` numbers a block.

    Notes:
      - One of the norms, exactly; of an even number the lower. 1e30 is gone after `window` steps.
      - The first step is limited by `scale` times its own norm, the second by `scale` times the
        smaller of two: a spike as first norm limits nothing but its own step.
      - Clip and defaults are of the authors' code alone: there in units of the parameters' root
        mean square, with the upper median, once in `window` steps, from the second window on.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> threshold = clipax.thresholds.median(2.0, window=3)
      >>> context = clipax.thresholds.Context(jnp.array(0))
      >>> _, state = threshold.update(jnp.array(2.0), threshold.init(()), context)
      >>> print(threshold.update(jnp.array(1e30), state, context)[0])
      4.0

    References:
      Yao et al., "Zipformer", arXiv 2310.11230, with the authors' code.
    """
    _validate.positive("scale", scale)
    window = _validate.index("window", window, minimum=1)

    def init(shape: tuple[int, ...]) -> WindowState:
        return _window.init(shape, window)

    def remember(state: WindowState, norms: Array, context: Context) -> WindowState:
        return _window.update(state, norms)

    def read(state: WindowState, context: Context) -> Array:
        middle = _window.order_statistic(state, (state.filled + 1) // 2)
        return _validate.to_float(scale, middle.dtype) * middle

    return follow_norms(init, remember, read)
