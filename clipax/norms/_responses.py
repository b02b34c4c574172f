"""Responses: factors that depend on the current norm alone."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from clipax import _validate
from clipax._typing import Array, Scalar, ScalarOrSchedule
from clipax.norms._base import Decision, NormRule, raise_zeros
from clipax.norms._factors import RESPONSES
from clipax.thresholds import Context, Threshold, as_threshold

__all__ = ["clip", "normalize"]


def clip(
    threshold: ScalarOrSchedule | Threshold,
    *,
    response: str = "hard",
    floor: Scalar | None = None,
    offset: Scalar | None = None,
) -> NormRule:
    """Bring the norm of a block under the threshold.

    Hard by default; with a `floor` it never scales by less ("delta-GClip": no bound on outliers).
    Prefer a smooth response for updates that are differentiated or a badly known threshold.

        f(n) = min(1, c/(n + tau)),  min(1, max(delta, c/(n + tau))),  1/sqrt(1 + (n/c)^2),
        1/(1 + n/c),  c/n tanh(n/c)  or  1 - (n - c/2)^2/(2 c n)

    for `"hard"` without and with a `floor`, `"sqrt"`, `"rational"`, `"tanh"` and `"huber"`, which
    is so for `c/2 <= n <= 3 c/2`; below, `f = 1`, and above, `f = c/n`.

    Args:
      threshold: Largest norm `c` that results, or that smooth responses approach: a positive number
        (infinity: the identity), an `optax.Schedule` of the step count, or a `Threshold`.
      response: `"hard"` (default), `"sqrt"`, `"rational"`, `"tanh"` or `"huber"`.
      floor: Only for `"hard"`: the smallest factor `delta`, in [0, 1]; 0 or None (default): none.
      offset: Only for `"hard"`: `tau >= 0`, in theory a bound of the noise; None (default).

    Returns:
      A `NormRule`. A block counts as clipped where `n > c` (`n > c - offset`).

    Notes:
      - Without a floor `f(n) n` never falls as `n` grows, never exceeds `c`, and is at least half
        of the hard clip's; squares of norms do not overflow. With one the factor is exactly `floor`
        from `n = c/floor` on; 1 leaves every norm as it is.
      - The factor is exactly 1 where `n + offset <= c`, for `"huber"` up to `c/2`. At 0 it is 1
        (`c/offset` if that is less), and without an offset its derivative is 0 (`"hard"`).
      - The papers have only `"hard"`; the others are in use beside it but for `"huber"`, a parabola
        with a continuous derivative, which is ours: the score of Huber's loss is the hard clip.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> context = clipax.thresholds.Context(count=jnp.array(0))
      >>> clip = clipax.norms.clip(1.0, floor=0.5)
      >>> print(clip.update(jnp.array([1.0, 1.25, 4.0]), clip.init((3,)), context)[0].factor)
      [1.  0.8 0.5]

    References:
      Zhang et al., ICLR 2020, arXiv 1905.11881; Tucat, Mukherjee et al., arXiv 2404.08624
      (`floor`); Mai, Johansson, ICML 2021, arXiv 2102.06489 (`response`).
    """
    _validate.one_of("response", response, RESPONSES)
    for name, value in (("floor", floor), ("offset", offset)):
        if value is not None and response != "hard":
            raise ValueError(
                f"`{name}` must be None with `response={response!r}`: it belongs to the hard clip, "
                f"got {value!r}."
            )
    if floor is not None:
        _validate.within("floor", floor, 0, 1)
    if offset is not None:
        _validate.non_negative("offset", offset)
    source = as_threshold(threshold)

    def update(norms: Array, state: Any, context: Context) -> tuple[Decision, Any]:
        limit, state = source.update(norms, state, context)
        if floor is not None:
            # A traced floor is not checked, and may exceed 1.
            least = jnp.minimum(jnp.asarray(floor, norms.dtype), 1)
        sizes = raise_zeros(norms, context)
        if offset is not None:
            sizes += _validate.to_float(offset, norms.dtype)
        factor = RESPONSES[response](sizes, limit)
        if floor is not None:
            factor = jnp.maximum(least, factor)
        if offset is not None:
            # In units of the measured norm: where the factor falls below 1.
            begins = limit - _validate.to_float(offset, norms.dtype)
            limit = jnp.maximum(begins, jnp.finfo(norms.dtype).smallest_normal)
        return Decision(factor, limit), state

    return NormRule(source.init, update, source.needs_params, never_amplifies=True)


def normalize(eps: Scalar) -> NormRule:
    """Give every block (almost) unit norm.

    The length of a step no longer depends on the scale of the loss. Prefer a clip where small
    gradients near a minimum should give small steps.

        f(n) = 1/(n + epsilon)

    Args:
      eps: Non-negative `epsilon`; norms well below it stay small, scaled by `1/eps`.

    Returns:
      A `NormRule`; nothing counts as clipped. With `eps = 0`, not the paper's, 0 has the factor 0.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> unit = clipax.norms.normalize(eps=1.0)
      >>> context = clipax.thresholds.Context(count=jnp.array(0))
      >>> print(unit.update(jnp.array([0.0, 3.0]), unit.init((2,)), context)[0].factor)
      [1.   0.25]

    References:
      Zhang et al., ICLR 2020, arXiv 1905.11881.
    """
    _validate.non_negative("eps", eps)

    def update(norms: Array, state: Any, context: Context) -> tuple[Decision, Any]:
        size = raise_zeros(norms, context) + _validate.to_float(eps, norms.dtype)
        # Below this the inverse overflows; such a block is zero for all purposes.
        tiny = size < jnp.finfo(norms.dtype).smallest_normal
        factor = jnp.where(tiny, 0, 1 / jnp.where(tiny, 1, size))
        return Decision(factor, jnp.full_like(norms, jnp.inf)), state

    return NormRule(lambda shape: (), update)
