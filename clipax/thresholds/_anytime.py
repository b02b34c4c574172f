"""Thresholds of convergence theorems: with a horizon that is unknown, and with one that is fixed.

T. D. Nguyen, T. H. Nguyen, A. Ene, H. L. Nguyen, NeurIPS 2023, arXiv 2304.01119; A. Sadiev et al.,
ICML 2023, arXiv 2302.00999.
"""

from __future__ import annotations

import jax.numpy as jnp
import optax

from clipax import _validate
from clipax._typing import Array, Scalar, ScalarOrSchedule

__all__ = ["anytime", "fixed_horizon"]


def anytime(
    sigma: Scalar, alpha: Scalar, regime: str = "nonconvex", *, gamma: Scalar = 1.0
) -> optax.Schedule:
    """Make the growing threshold of the theorems for an unknown horizon.

    With the theorems' learning rates clipped gradient descent then converges with high probability
    at any time. Prefer it to `power`, which drops constants and logarithms, for the theorem itself.

        c_t = sigma (2 t (1 + ln(t))^2)^(1/(3 alpha - 2)),  t = count + 1,  or
        c_t = sigma (52 t (1 + ln(t))^2/gamma)^(1/alpha)

    for `regime` `"nonconvex"` and `"convex"`. It never decreases.

    Args:
      sigma: Noise scale `(E||g - grad f||^alpha)^(1/alpha)`, a gradient norm; positive.
      alpha: Tail index in (1, 2], the paper's p: the noise has moments up to this order.
      regime: `"nonconvex"` (default) or `"convex"`.
      gamma: Log of one over the failure probability, for `"convex"`; positive, default 1 (.37).

    Returns:
      An `optax.Schedule`: from the 0-based step count, which may be traced, to a scalar threshold.

    Notes:
      The paper (its constants 2 and 52 are at second hand here) takes the larger of this and a
      bound on the objective's gradients, which is rarely known.

    Example:
      >>> import clipax
      >>> schedule = clipax.thresholds.anytime(sigma=1.0, alpha=1.5)
      >>> [round(float(schedule(count)), 4) for count in (0, 9, 999)]
      [1.3195, 8.6198, 109.359]

    References:
      Nguyen, Nguyen, Ene, Nguyen, NeurIPS 2023, arXiv 2304.01119.
    """
    _validate.positive("sigma", sigma)
    _validate.within("alpha", alpha, 1, 2, brackets="(]")
    _validate.one_of("regime", regime, ("nonconvex", "convex"))
    _validate.positive("gamma", gamma)

    def schedule(count: Scalar) -> Array:
        # The default float type: float64 where x64 is on, else float32.
        time = jnp.asarray(count, float) + 1
        growth = time * (1 + jnp.log(time)) ** 2
        if regime == "convex":
            return jnp.asarray(sigma * (52 * growth / gamma) ** (1 / alpha))
        return jnp.asarray(sigma * (2 * growth) ** (1 / (3 * alpha - 2)))

    return schedule


def fixed_horizon(
    radius: Scalar,
    learning_rate: ScalarOrSchedule,
    steps: int,
    failure_probability: Scalar,
    *,
    constant: Scalar = 0.5,
) -> optax.Schedule:
    """Make the constant threshold of the theorems for a known number of steps.

    The tail index of the noise enters through the learning rate alone. Prefer it where the number
    of steps is known and the distance to the solution can be bounded; `anytime` needs neither.

        c = R/(a eta A),  A = ln(4 (K + 1)/delta)

    Args:
      radius: A bound `R` on the distance from first parameters to solution, positive.
      learning_rate: That of the optimizer, `eta`, positive, or its schedule; the theorem's:
        `min(1/(L A), R/(sigma K^(1/alpha) A^((alpha - 1)/alpha)))` up to constants.
      steps: Number `K` of steps of the whole run, a concrete integer of at least 1.
      failure_probability: How often the bound may fail, `delta` in (0, 1).
      constant: The theorem's factor `a`, positive; default 1/2: at the rate of
        `theory.clip_sgd_convex` true gradients within twice the radius pass. Smaller clips less.

    Returns:
      An `optax.Schedule`, constant as the paper's where the rate is; infinite where that is 0.

    Notes:
      No step of clipped descent is longer than `radius/(constant * A)`. The paper's numerical
      factors differ from theorem to theorem and are not known here, hence `constant`.

    Example:
      >>> import clipax
      >>> schedule = clipax.thresholds.fixed_horizon(1.0, 1e-3, steps=999, failure_probability=0.04)
      >>> print(f"{float(schedule(0)):.4f}")  # 1000/(ln(1e5)/2)
      173.7178

    References:
      Sadiev et al., ICML 2023, arXiv 2302.00999.
    """
    _validate.positive("radius", radius)
    if not callable(learning_rate):
        _validate.positive("learning_rate", learning_rate)
    steps = _validate.integer("steps", steps, minimum=1)
    _validate.within("failure_probability", failure_probability, 0, 1, brackets="()")
    _validate.positive("constant", constant)

    def schedule(count: Scalar) -> Array:
        rate = learning_rate(count) if callable(learning_rate) else learning_rate
        spread = jnp.log(4.0 * (steps + 1) / jnp.asarray(failure_probability, float))
        # A rate of zero needs no clip. Not divided by zero, which `jax_debug_infs` would report.
        moves = jnp.asarray(rate, float) > 0
        safe = jnp.where(moves, rate, 1)
        return jnp.where(moves, radius / (constant * safe * spread), jnp.inf)

    return schedule
