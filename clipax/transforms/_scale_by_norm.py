"""Lifts decisions on norms to gradient transformations."""

from __future__ import annotations

import optax

from clipax._typing import AxisName, NonFinite, Scalar
from clipax.engine import NormRules, ScaleByNormState, Spec, lift, momentum
from clipax.norms import NormRule
from clipax.scopes import Scope

__all__ = ["ScaleByNormState", "scale_by_norm"]


def scale_by_norm(
    before: NormRule | None = None,
    *,
    after: NormRule | None = None,
    b1: Scalar | None = None,
    weight_decay: Scalar | None = None,
    total: NormRule | None = None,
    scope: str | Scope = "global",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Scales gradients by factors that are functions of their norms.

    Every method of this package that is a function of norms is an instance. Use it to build your
    own: any composition of `clipax.norms` costs one read of the gradient and one multiplication.

    .. math::
        m_t = b_1 m_{t-1} + (1 - b_1)\, f_t\, (g_t + \lambda x_t), \qquad u_t = a_t m_t

    where the factors :math:`f_t` (`before`) and :math:`a_t` (`after`) are decided from the norm
    :math:`n = \|g_t\|` of each block: `before` sees :math:`n`, `after` sees :math:`f_t n`. With
    `total`, :math:`f_t` has one more factor that all blocks share, decided from the norm of all of
    them together.
    Without `b1`, :math:`m_t` is the scaled gradient itself; :math:`\lambda` is `weight_decay`.

    Args:
      before: Decides on the factor of the gradient, for example `clipax.norms.clip(1.0)`; None
        (default) leaves it as it is.
      after: Decides on the factor behind the momentum, for example
        `clipax.norms.adagrad_norm(1.0)`; None (default) for none.
      b1: Decay rate of the momentum, in [0, 1), from zero and without bias correction; None
        (default) for no momentum and no memory for it.
      weight_decay: Adds this multiple of the parameters to the gradient after it was measured, so
        that it is scaled but does not count; non-negative, None (default) for none.
      total: Decides on one more factor, common to all blocks, from the norm of all of them
        together as `before` leaves them: `before` and `total` clips are two levels for one read
        of the gradient. It may not depend on the parameters; None (default) for none.
      scope: Which entries share a norm: `"global"`, `"leaf"`, `"unit"` or a scope of
        `clipax.scopes`.
      nonfinite: What to do with a block whose norm is not finite: `"zero"` (default) makes its
        update zero, `"propagate"` makes it NaN. Either way everything remembered keeps its value.
      axis_name: Inside `shard_map`, the mesh axes over which gradients are sharded: names, or
        (where `check_vma=False`) a mapping from path patterns to names. `()` measures each shard
        by itself. Not needed under `jit`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Guarantees:
      One read of the gradient, or two if the sum of squares overflows. Sums in float32 or better.
      The update has the gradient's dtype. A factor of exactly 1 keeps every normal number as it
      is. No NaN or infinity enters the state. The derivative at a zero gradient is finite.

    Edge cases:
      =========================== ==================================================
      gradient                    result
      =========================== ==================================================
      zero block                  zero update, derivative 0
      NaN or infinity in a block  zero update for that block (or NaN: `"propagate"`)
      norm above the largest float  as for an infinity
      `None` in place of a leaf   `None`; what is remembered for the leaf is kept
      no leaves at all            no leaves
      integer leaf                TypeError that names it
      =========================== ==================================================

    Sharding:
      Under `jit` nothing is needed: at most one all-reduce for each mesh axis outside the overflow
      branch (for up to 256 leaves: XLA merges no more). Inside `shard_map`, one `psum` over
      `axis_name`.

    Raises:
      TypeError: An argument is of the wrong type.
      ValueError: `b1` outside [0, 1), `weight_decay` negative, `total` depends on parameters,
        `scope` or `nonfinite` unknown; when used: no `params` where they are needed, leaves unknown
        to the state, unnamed mesh axes.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip_then_halve = clipax.scale_by_norm(
      ...     clipax.norms.clip(1.0), after=clipax.norms.normalize(eps=1.0)
      ... )
      >>> grads = {"w": jnp.array([3.0, 4.0])}
      >>> updates, state = clip_then_halve.update(grads, clip_then_halve.init(grads))
      >>> print(updates["w"], state.telemetry.grad_norm, state.telemetry.clip_factor)
      [0.3 0.4] 5.0 0.2

    References:
      The forms it serves are those of J. Zhang et al., arXiv 1905.11881, and S. Chezhegov et al.,
      arXiv 2406.04443.

    Differences from the paper:
      It is a building block of this package, not a method of a paper; non-finite gradients are
      guarded against, which no paper treats.
    """
    return lift(
        Spec.of(scope, nonfinite, axis_name),
        NormRules.of(before, total=total, after=after),
        None if b1 is None else momentum(b1),
        weight_decay=weight_decay,
    )
