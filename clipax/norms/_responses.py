"""Responses: factors that depend on the current norm alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from clipax import _validate
from clipax._typing import Array, Scalar, ScalarOrSchedule
from clipax.norms._base import Decision, NormRule
from clipax.norms._factors import RESPONSES, hard
from clipax.thresholds import Context, Threshold, as_threshold

__all__ = ["clip", "normalize", "regularized", "smooth"]


def clip(threshold: ScalarOrSchedule | Threshold, *, offset: Scalar | None = None) -> NormRule:
    r"""Shrinks a block to the threshold where its norm exceeds it.

    The hard clip as a decision on norms: `clip_by_global_norm` lifts it to gradients.

    .. math:: f(n) = \min(1, c/(n + \tau))

    with :math:`c` the `threshold` and :math:`\tau` the `offset`.

    Args:
      threshold: The largest norm that passes: a positive number (infinity: never clip), an
        `optax.Schedule` of the step count, or a `Threshold`.
      offset: Added to the norm before it is compared, non-negative: a bound of the noise in the
        norm, in the theory of clipped SGD. None (default) for none.

    Returns:
      A `NormRule`. A block counts as clipped where `n > c - offset`.

    Guarantees:
      The factor is exactly 1 where `n + offset <= c`; without an offset its derivative at 0 is 0. A
      threshold that compensates for what it cuts off multiplies all factors.

    Edge cases:
      =============== ==========================
      norm            factor
      =============== ==========================
      0               1 (`c/offset` if that is less)
      `c = inf`       1
      =============== ==========================

    Sharding:
      Elementwise on norms; no communication.

    Raises:
      TypeError: `threshold` is no number, schedule or `Threshold`, or `offset` no number.
      ValueError: `threshold` is not positive or `offset` negative.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.norms.clip(1.0)
      >>> context = clipax.thresholds.Context(count=jnp.array(0))
      >>> print(clip.update(jnp.array([0.0, 0.5, 4.0]), clip.init((3,)), context)[0].factor)
      [1.   1.   0.25]

    References:
      J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why gradient clipping accelerates training: A
      theoretical justification for adaptivity", ICLR 2020, arXiv 1905.11881.

    Differences from the paper:
      None; the learning rate is a link of its own.
    """
    if offset is None:
        return _response(threshold, hard, compensates=True)
    _validate.non_negative("offset", offset)

    def factor(norms: Array, threshold: Array) -> Array:
        return hard(norms + jnp.asarray(offset, norms.dtype), threshold)

    clipped = _response(threshold, factor, compensates=True)

    def update(norms: Array, state: Any, context: Context) -> tuple[Decision, Any]:
        decision, state = clipped.update(norms, state, context)
        # In units of the measured norm: where the factor falls below 1.
        least = jnp.finfo(norms.dtype).smallest_normal
        begins = jnp.maximum(decision.threshold - jnp.asarray(offset, norms.dtype), least)
        return decision._replace(threshold=begins), state

    return clipped._replace(update=update)


def regularized(threshold: ScalarOrSchedule | Threshold, delta: Scalar) -> NormRule:
    r"""Clips, but never by more than a floor.

    As a decision on norms: `clip_by_regularized_norm` lifts it to gradients.

    .. math:: f(n) = \min(1, \max(\delta, \gamma/n))

    with :math:`\gamma` the `threshold`.

    Args:
      threshold: Norm at which clipping begins: a positive number (infinity: never), an
        `optax.Schedule` of the step count, or a `Threshold`.
      delta: The smallest factor, in [0, 1]; 0 is `clip`, 1 leaves every gradient as it is.

    Returns:
      A `NormRule`.

    Guarantees:
      The factor lies in `[delta, 1]` and is exactly 1 where `n <= threshold`.

    Edge cases:
      =================== =======
      norm                factor
      =================== =======
      0                   1
      `n > gamma/delta`   `delta`
      =================== =======

    Sharding:
      Elementwise on norms; no communication.

    Raises:
      TypeError: An argument is not a number.
      ValueError: `threshold` is not positive or `delta` outside [0, 1].

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.norms.regularized(1.0, delta=0.5)
      >>> context = clipax.thresholds.Context(count=jnp.array(0))
      >>> print(clip.update(jnp.array([0.5, 1.25, 4.0]), clip.init((3,)), context)[0].factor)
      [1.  0.8 0.5]

    References:
      M. Tucat, A. Mukherjee et al., "Regularized Gradient Clipping Provably Trains Wide and Deep
      Neural Networks", arXiv 2404.08624.

    Differences from the paper:
      None; the learning rate is a link of its own.
    """
    _validate.within("delta", delta, 0, 1)

    def factor(norms: Array, threshold: Array) -> Array:
        # One that is only known now may be above 1, and stretch.
        floor = jnp.minimum(jnp.asarray(delta, norms.dtype), 1)
        return jnp.maximum(floor, hard(norms, threshold))

    return _response(threshold, factor)


def smooth(threshold: ScalarOrSchedule | Threshold, response: str = "sqrt") -> NormRule:
    r"""Bends every norm smoothly so that it stays below the threshold.

    As a decision on norms: `clip_by_smooth_norm` lifts it to gradients.

    .. math:: f(n) = \frac{1}{\sqrt{1 + (n/c)^2}}, \quad \frac{1}{1 + n/c}, \quad
        \frac{c}{n} \tanh\frac{n}{c}, \quad \min(1, c/n) \quad \text{or} \quad
        1 - \frac{(n - c/2)^2}{2 c n}

    for `response` `"sqrt"`, `"rational"`, `"tanh"`, `"hard"` or `"huber"`, with :math:`c` the
    `threshold`. The last holds for :math:`c/2 \le n \le 3c/2`; below, :math:`f = 1`, and above,
    :math:`f = c/n`: the identity up to half the threshold, then a parabola that meets the constant
    :math:`c` with a continuous derivative, as the score of Huber's loss would with its corner
    rounded off.

    Args:
      threshold: The norm that the result approaches for large norms (or reaches: `"hard"` and
        `"huber"`): a positive number (infinity: the identity), an `optax.Schedule` of the step
        count, or a `Threshold`.
      response: `"sqrt"` (default), `"rational"`, `"tanh"`, `"huber"`, or `"hard"`, the clip with a
        corner.

    Returns:
      A `NormRule`. A block counts as clipped where `n > c`.

    Guarantees:
      `f(n) n` never falls as `n` grows and never exceeds `c`; squares of norms do not overflow.
      `"hard"` is exactly 1 up to `c`, `"huber"` up to `c/2`.

    Edge cases:
      ============ ======
      norm         factor
      ============ ======
      0            1
      `c = inf`    1
      ============ ======

    Sharding:
      Elementwise on norms; no communication.

    Raises:
      TypeError: `threshold` is no number, schedule or `Threshold`.
      ValueError: `threshold` is not positive or `response` unknown.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> bend = clipax.norms.smooth(3.0)
      >>> context = clipax.thresholds.Context(count=jnp.array(0))
      >>> print(bend.update(jnp.array([0.0, 4.0]), bend.init((2,)), context)[0].factor)
      [1.  0.6]

    References:
      V. V. Mai, M. Johansson, "Stability and Convergence of Stochastic Gradient Clipping: Beyond
      Lipschitz Continuity and Smoothness", ICML 2021, arXiv 2102.06489.

    Differences from the paper:
      The paper analyses the hard clip; these are the smooth forms in use beside it. `"huber"` is
      this library's: the score of Huber's loss itself is the hard clip.
    """
    _validate.one_of("response", response, RESPONSES)
    return _response(threshold, RESPONSES[response], compensates=response == "hard")


def normalize(eps: Scalar) -> NormRule:
    r"""Gives every block (almost) unit norm.

    As a decision on norms: `normalize_by_global_norm` lifts it to gradients.

    .. math:: f(n) = \frac{1}{n + \epsilon}

    Args:
      eps: What keeps small gradients small, non-negative.

    Returns:
      A `NormRule`. Nothing counts as clipped.

    Guarantees:
      The factor is finite for every norm.

    Edge cases:
      ===================== ======================
      norm                  factor
      ===================== ======================
      0, with `eps = 0`     0: a zero block is kept
      ===================== ======================

    Sharding:
      Elementwise on norms; no communication.

    Raises:
      TypeError: `eps` is not a number.
      ValueError: `eps` is negative.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> unit = clipax.norms.normalize(eps=1.0)
      >>> context = clipax.thresholds.Context(count=jnp.array(0))
      >>> print(unit.update(jnp.array([0.0, 3.0]), unit.init((2,)), context)[0].factor)
      [1.   0.25]

    References:
      J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why gradient clipping accelerates training: A
      theoretical justification for adaptivity", ICLR 2020, arXiv 1905.11881.

    Differences from the paper:
      `eps = 0` is allowed.
    """
    _validate.non_negative("eps", eps)

    def update(norms: Array, state: Any, context: Context) -> tuple[Decision, Any]:
        size = norms + jnp.asarray(eps, norms.dtype)
        # Below this the inverse overflows; such a block is zero for all purposes.
        tiny = size < jnp.finfo(norms.dtype).smallest_normal
        factor = jnp.where(tiny, 0, 1 / jnp.where(tiny, 1, size))
        return Decision(factor, jnp.full_like(norms, jnp.inf)), state

    return NormRule(lambda shape: (), update)


def _response(
    threshold: ScalarOrSchedule | Threshold,
    factor: Callable[[Array, Array], Array],
    *,
    compensates: bool = False,
) -> NormRule:
    """The transformation of norms with `factor(norms, threshold)`."""
    source = as_threshold(threshold)
    if source.compensation is not None and not compensates:
        raise ValueError(
            "`threshold` must be one without compensation: the share that passes a hard clip says "
            f"nothing about another response, got {threshold!r}."
        )

    def update(norms: Array, state: Any, context: Context) -> tuple[Decision, Any]:
        now, state = source.update(norms, state, context)
        scale = factor(norms, now)
        if source.compensation is not None:
            scale = scale * source.compensation(state)
        return Decision(scale, now), state

    never_amplifies = source.compensation is None
    return NormRule(source.init, update, source.needs_params, never_amplifies)
