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
from clipax.thresholds._base import Context, Threshold

__all__ = ["quantile", "quantile_schedule"]


def quantile(quantile: ScalarOrSchedule, *, window: int = 100) -> Threshold:
    r"""Makes a clipping threshold of a quantile of the last norms.

    The threshold follows the scale of the gradients, whatever it is, and a known share of the steps
    is clipped. Prefer it where no constant threshold suits the whole run, and under noise so heavy
    that its moments say little.

    .. math:: c_t = n_{(r)}, \qquad r = \lceil p_t S_t \rceil, \qquad S_t = \min(t, S)

    with :math:`n_{(r)}` the r-th smallest of the last :math:`S_t` norms, the current one included,
    :math:`p` the `quantile`, :math:`S` the `window` and :math:`t` the number of this step from 1:
    as long as fewer than S norms were seen, the quantile is that of all of them.

    It lags, and more on norms that fall than on norms that rise: after a drop for good nothing is
    clipped for `p S` steps, until that many of the new norms are in the window; after a jump for
    good everything is, for about `(1 - p) S`. Where norms fall by a small share `s` a step, the
    threshold is about `exp(s p S)` times the quantile that holds now: 2.4 times at 1 % a step and
    the 90th of the default 100 norms. A shorter window lags less; `ema` and `rms` weigh recent
    norms more.

    Args:
      quantile: Which quantile, in (0, 1), or an `optax.Schedule` of the 0-based step count, for
        example `quantile_schedule`. Clips about the share `1 - quantile` of all steps.
      window: How many norms are remembered, at least 1; default 100. No step is clipped before
        `1/(1 - quantile)` norms are remembered.

    Returns:
      A `Threshold` with a `WindowState`.

    Guarantees:
      An order statistic, exactly: the threshold is one of the norms in the window, the same as
      `numpy.quantile(..., method="inverted_cdf")`. A product `p S` that is whole but for rounding,
      as .1 * 30, counts as whole: the rank is that of `p S (1 - 4 eps)`, eps being the precision of
      the default float type. The state holds norms alone, finite at all times; a norm of 1e30 is
      one of many and is forgotten after `window` steps.

    Edge cases:
      =========================== ====================================================
      input                       result
      =========================== ====================================================
      first step                  its own norm: nothing is clipped
      `quantile > 1 - 1/window`   the largest norm: nothing is ever clipped
      `p_t` outside [0, 1]        the smallest or largest norm
      quantile of zero norms      the smallest positive float: next to nothing passes
      NaN or infinite norm        the step is not remembered
      =========================== ====================================================

    Sharding:
      Elementwise on norms; no communication. Twice `window` numbers a block.

    Raises:
      TypeError: `quantile` is no number or schedule, or `window` not a concrete integer
        (`static_args` of `optax.inject_hyperparams`).
      ValueError: `quantile` outside (0, 1), `window` below 1.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> median = clipax.thresholds.quantile(0.5, window=3)
      >>> context = clipax.thresholds.Context(count=jnp.array(0))
      >>> state = median.init(())
      >>> for norm in (4.0, 1.0, 2.0, 8.0):
      ...     threshold, state = median.update(jnp.array(norm), state, context)
      ...     print(threshold)
      4.0
      1.0
      2.0
      2.0

    References:
      I. Merad, S. Gaiffas, "Robust Stochastic Optimization via Gradient Quantile Clipping", arXiv
      2309.17316.
      E. Shulgin, P. Richtarik, "On the Convergence of DP-SGD with Adaptive Clipping", arXiv
      2412.19916.

    Differences from the paper:
      The theory takes the quantile of the gradient norm's distribution at the current parameters;
      this is that of the last norms, which were measured at others. With a fixed quantile a bias of
      at most `(1 - p)^(1 - 1/q) sigma_q` stays, `sigma_q` the root of the q-th moment of the noise;
      quantiles that increase to 1, with decreasing learning rates, remove it.
    """
    if not callable(quantile):
        _validate.within("quantile", quantile, 0, 1, brackets="()")
    window = _validate.index("window", window, minimum=1)

    def init(shape: tuple[int, ...]) -> WindowState:
        return _window.first(shape, window)

    def update(norms: Array, state: WindowState, context: Context) -> tuple[Array, WindowState]:
        state = _window.pushed(state, norms)
        share = _window.probability(quantile, context.count)
        found = _window.order_statistic(state, _window.rank(share, state.filled))
        return _window.floored(found.astype(norms.dtype)), state

    return Threshold(init, update)


def quantile_schedule(initial: Scalar = 0.5, exponent: Scalar = 0.5) -> optax.Schedule:
    r"""Makes a quantile that increases to 1 as a power of time.

    .. math:: p_t = 1 - (1 - p_0)\, t^{-a}, \qquad t = count + 1

    A fixed quantile keeps a bias; one that increases, with a decreasing learning rate, removes it.
    A window of S norms knows no quantile above `1 - 1/S` but the largest norm: `quantile` stops to
    clip at `t = (S (1 - p_0))^(1/a)`.

    Args:
      initial: :math:`p_0`, the quantile of the first step, in (0, 1); default .5.
      exponent: :math:`a`, how fast the share of clipped steps falls, positive; default .5.

    Returns:
      An `optax.Schedule` for `quantile` and `geometric_quantile`.

    Raises:
      TypeError: An argument is not a number.
      ValueError: `initial` outside (0, 1), `exponent` not positive.

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
