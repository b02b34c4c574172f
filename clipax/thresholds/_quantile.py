"""Thresholds at a quantile of the last norms.

I. Merad, S. Gaiffas, "Robust Stochastic Optimization via Gradient Quantile Clipping", arXiv
2309.17316.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax

from clipax import _validate
from clipax._statistics import _window
from clipax._statistics._window import WindowState
from clipax._typing import Array, Scalar, ScalarOrSchedule
from clipax.thresholds._base import Context, Threshold, follow_norms

__all__ = ["evaluate_quantile", "quantile", "quantile_schedule"]


def quantile(quantile: ScalarOrSchedule, *, window: int = _validate.fixed_size(100)) -> Threshold:
    """Make a threshold of a quantile of the last norms.

    It follows any scale of the gradients, and a known share of the steps is clipped. Prefer it
    where no constant threshold suits the whole run, and under noise whose moments say little.

        c_t = n_{(r)},  r = ceil(p_t S_t),  S_t = min(t, S)

    with `n_{(r)}` the r-th smallest of the last `S_t` norms, up to the `t`-th.

    Args:
      quantile: Share `p` of steps to pass, in (0, 1), or a schedule (`quantile_schedule`).
      window: How many norms are remembered, `S`, an integer of at least 1; default 100.

    Returns:
      A `Threshold` with a `WindowState`, twice `window` numbers a block.

    Notes:
      - One of the norms, exactly, as `numpy.quantile(..., method="inverted_cdf")`, but a product
        `p S` that is whole but for rounding, as .1 * 30, counts as whole: the rank is of
        `p S (1 - 4 eps)`, eps of the default float type. A norm of 1e30 is one of many.
      - It lags, more on falling norms. After a drop for good nothing is clipped for `p S` steps;
        after a jump everything is, for about `(1 - p) S`. Where norms fall by a share `s` a step,
        it is about `exp(s p S)` times too large: 2.4 times at 1 % a step and the 90th of 100 norms.
      - No step is clipped before `1/(1 - p)` norms are in, and none where `p > 1 - 1/S`.
      - The theory takes the quantile at the current parameters, not at the last ones. A fixed one
        leaves a bias of at most `(1 - p)^(1 - 1/q) sigma_q`, `sigma_q` the root of the noise's q-th
        moment; quantiles that increase to 1, with falling learning rates, remove it.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> median = clipax.thresholds.quantile(0.5, window=3)
      >>> context = clipax.thresholds.Context(jnp.array(0))
      >>> _, state = median.update(jnp.array(2.0), median.init(()), context)
      >>> print(median.update(jnp.array(8.0), state, context)[0])
      2.0

    References:
      Merad, Gaiffas, arXiv 2309.17316; Shulgin, Richtarik (DP-SGD), arXiv 2412.19916.
    """
    if not callable(quantile):
        _validate.within("quantile", quantile, 0, 1, brackets="()")
    window = _validate.index("window", window, minimum=1)

    def init(shape: tuple[int, ...]) -> WindowState:
        return _window.init(shape, window)

    def remember(state: WindowState, norms: Array, context: Context) -> WindowState:
        return _window.update(state, norms)

    def read(state: WindowState, context: Context) -> Array:
        share = evaluate_quantile(quantile, context.count)
        return _window.order_statistic(state, _window.rank(share, state.filled))

    return follow_norms(init, remember, read)


def evaluate_quantile(quantile: ScalarOrSchedule, count: Scalar) -> Array:
    """Evaluate a quantile at a 0-based step, cut to [0, 1]; NaN counts as 0."""
    # The default float type: float64 where x64 is on, else float32.
    now = jnp.asarray(quantile(count) if callable(quantile) else quantile, float)
    return jnp.where(now > 0, jnp.minimum(now, 1), 0)


def quantile_schedule(initial: Scalar = 0.5, exponent: Scalar = 0.5) -> optax.Schedule:
    """Make a quantile that increases to 1 as a power of time.

        p_t = 1 - (1 - p_0) t^(-a),  t = count + 1

    A fixed quantile keeps a bias; one that increases, with a decreasing learning rate, removes it.
    The largest norm of a window of S is its quantile from `1 - 1/S` on: `quantile` stops to clip at
    `t = (S (1 - p_0))^(1/a)`.

    Args:
      initial: `p_0`, the quantile of the first step, in (0, 1); default .5.
      exponent: `a`, how fast the share of clipped steps falls, positive; default .5.

    Returns:
      An `optax.Schedule` for `quantile` and `geometric_quantile`.

    Example:
      >>> import clipax
      >>> schedule = clipax.thresholds.quantile_schedule(0.5, 1.0)
      >>> [float(schedule(count)) for count in (0, 1, 3)]
      [0.5, 0.75, 0.875]
    """
    _validate.within("initial", initial, 0, 1, brackets="()")
    _validate.positive("exponent", exponent)

    def schedule(count: Any) -> Array:
        return jnp.asarray(1 - (1 - initial) * (jnp.asarray(count, float) + 1) ** -exponent)

    return schedule
