"""A threshold at a multiple of the root mean square of the norms.

N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of SGD with
Gradient Clipping in High-Dimensions", arXiv 2406.11733.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from clipax import _validate
from clipax._statistics import _window
from clipax._typing import Array, Scalar
from clipax.thresholds._base import Context, Threshold

__all__ = ["RmsState", "rms_of_norms"]


class RmsState(NamedTuple):
    """State of `rms_of_norms`; each array has the shape of the norms.

    Attributes:
      scale: Root of the average of the squared norms, without bias correction.
      within: Average of the steps' indicators of a norm within the threshold, likewise.
      weight: What both averages would be of ones: the bias correction.
    """

    scale: Array
    within: Array
    weight: Array


def rms_of_norms(
    kappa: Scalar,
    *,
    decay: Scalar = 0.99,
    limit: Scalar | None = 10.0,
    compensate: str | None = None,
) -> Threshold:
    r"""Makes a clipping threshold of the root mean square of the norms.

    The one-parameter rule of the theory of clipping in high dimensions, on the norms of real
    gradients. Prefer it where the scale of the gradients changes slowly and a window of norms is
    too much to remember.

    .. math::
        c_t = \kappa R_t, \qquad R_t^2 = \frac{v_t}{w_t}, \qquad
        v_t = \beta v_{t-1} + (1 - \beta) \min(n_t, L R_{t-1})^2, \qquad
        w_t = \beta w_{t-1} + (1 - \beta)

    with :math:`\kappa` the `kappa`, :math:`\beta` the `decay` and :math:`L` the `limit`. The norms
    are the unclipped ones: of clipped ones the threshold would collapse for :math:`\kappa < 1`. In
    place of the clip, the limit keeps one spike from blowing the threshold up: it enters as L times
    the root mean square before it, and so raises that by a factor of 1.41 with the defaults (in the
    first steps by up to :math:`L/\sqrt{t}`). The current norm is included, so that there is a
    threshold from the first step on.

    Args:
      kappa: The threshold in units of the root mean square, positive and finite.
      decay: Decay rate of the average, in [0, 1); default .99, about the last 100 steps.
      limit: The largest norm that is remembered as it is, in units of the root mean square before
        it; more than 1, default 10. None: every norm enters as it is.
      compensate: What to multiply with for what the clip cuts off. None (default): nothing.
        `"bound"`: `max(1, 1/kappa)`. `"fraction"`: one over the average share of the norms within
        the threshold, at most `max(1, 1/kappa)`.

    Returns:
      A `Threshold` with an `RmsState`.

    Guarantees:
      A scale is kept, not its square: norms of 1e30 do not overflow. Clipped and compensated, no
      norm exceeds `max(1, kappa)` times the root mean square. A scale of zero, after nothing but
      zero gradients, limits nothing.

    Edge cases:
      =========================== ============================================
      input                       result
      =========================== ============================================
      first step                  `kappa` times its own norm; a spike there is
                                  forgotten at the rate of `decay` alone
      zero norms alone            the smallest positive float
      NaN or infinite norm        the step is not remembered
      =========================== ============================================

    Sharding:
      Elementwise on norms; no communication.

    Raises:
      TypeError: An argument is not a number.
      ValueError: `kappa` not positive or not finite, `decay` outside [0, 1), `limit` not above 1,
        `compensate` unknown.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> threshold = clipax.thresholds.rms_of_norms(0.5, decay=0.0, limit=2.0)
      >>> context = clipax.thresholds.Context(count=jnp.array(0))
      >>> state = threshold.init(())
      >>> for norm in (4.0, 100.0):  # the second is remembered as 8
      ...     now, state = threshold.update(jnp.array(norm), state, context)
      ...     print(now)
      2.0
      4.0

    References:
      N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of
      SGD with Gradient Clipping in High-Dimensions", arXiv 2406.11733.

    Differences from the paper:
      The paper's threshold is `kappa` times the root of `2 R + sigma^2`, the scale of the residual
      of streaming least squares; that this is the root mean square of gradient norms elsewhere is
      this library's reading. Average, limit and the bound of `"fraction"` are not in the paper; its
      learning rate is divided by the exact share within, or by `min(1, kappa)`.
    """
    _validate.positive("kappa", kappa)
    _validate.open_unit("decay", decay)
    if limit is not None:
        _validate.number("limit", limit, "above 1", lambda value: value > 1)
    if compensate is not None:
        _validate.one_of("compensate", compensate, ("bound", "fraction"))

    def init(shape: tuple[int, ...]) -> RmsState:
        return RmsState(*(jnp.zeros(shape, float) for _ in RmsState._fields))

    def update(norms: Array, state: RmsState, context: Context) -> tuple[Array, RmsState]:
        dtype = state.scale.dtype
        # 1 - decay before rounding to float32, where .999 would cost it four digits.
        old, new = jnp.asarray(decay, dtype), jnp.asarray(1 - decay, dtype)
        entering = norms.astype(dtype)
        if limit is not None:
            most = jnp.asarray(limit, dtype) * _root(state)
            entering = jnp.where(most > 0, jnp.minimum(entering, most), entering)
        scale = jnp.hypot(jnp.sqrt(old) * state.scale, jnp.sqrt(new) * entering)
        # What is below the smallest normal number is zero: a limit relative to it would hold on.
        info = jnp.finfo(dtype)
        scale = jnp.where(scale < info.smallest_normal, 0, jnp.minimum(scale, info.max))
        state = state._replace(scale=scale, weight=old * state.weight + new)
        threshold = _window.floored((jnp.asarray(kappa, dtype) * _root(state)).astype(norms.dtype))
        within = old * state.within + new * (norms <= threshold).astype(dtype)
        return threshold, state._replace(within=within)

    def compensation(state: RmsState) -> Array:
        # At least this share counts as within: the inverse is max(1, 1/kappa).
        least = jnp.minimum(1, jnp.asarray(kappa, state.weight.dtype))
        if compensate == "bound":
            return jnp.full_like(state.weight, 1 / least)
        return 1 / jnp.maximum(_average(state.within, state.weight), least)

    return Threshold(init, update, compensation=None if compensate is None else compensation)


def _average(total: Array, weight: Array) -> Array:
    """`total / weight`, zero before the first step."""
    return total / jnp.where(weight > 0, weight, 1)


def _root(state: RmsState) -> Array:
    """The root mean square of the norms so far, zero before the first step."""
    return state.scale / jnp.sqrt(jnp.where(state.weight > 0, state.weight, 1))
