"""Mixed clipping: clipped momentum and clipped gradient together.

B. Zhang, J. Jin, C. Fang, L. Wang, "Improved Analysis of Clipping Algorithms for Non-convex
Optimization", arXiv 2010.02519.
"""

from __future__ import annotations

import jax.numpy as jnp
import optax

from clipax import _validate, norms
from clipax._typing import Array, AxisName, NonFinite, Scalar, ScalarOrSchedule
from clipax.engine import chain
from clipax.optimizers._momentum_norm import scale_by_momentum_norm

__all__ = ["mixed_clip_sgd", "momentum_clip_sgd"]


def mixed_clip_sgd(
    learning_rate: ScalarOrSchedule,
    max_step: ScalarOrSchedule,
    *,
    nu: Scalar = 0.7,
    decay: Scalar = 0.999,
    response: str = "hard",
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Move along clipped momentum and clipped gradient at once, each cut by its own norm.

    One method with clipped SGD (`nu = 0`), momentum clipping (`nu = 1`) and quasi-hyperbolic
    momentum (`max_step` infinite) as its corners. Prefer it to `clip_sgd` where momentum helps.

        m_t = b m_{t-1} + (1 - b) g_t,
        x_{t+1} = x_t - nu min(eta_t, G/||m_t||) m_t
            - (1 - nu) min(eta_t, G/||g_t||) g_t

    Args:
      learning_rate: Step size `eta`, non-negative, or an `optax.Schedule`.
      max_step: Longest step `G`: a number (infinity: never clip), or a schedule: the rate's for a
        constant threshold on the norm, as in the authors' runs.
      nu: Share `nu` of the momentum, in [0, 1]; default .7 as in the authors' code.
      decay: Decay rate `b`, as `b1` for `scale_by_norm`; default .999, the authors'.
      response: `"hard"` (default), the paper's minimum, or `"soft"`, that of the authors' code:
        `eta/(1 + eta n/G)`, within half of `min(eta, G/n)` and all of it.
      weight_decay: Adds this multiple of `params` to gradients before momentum and norms; or None.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, whose updates are added to the parameters; none is longer than `max_step`.

    Notes:
      - At a rate of 0 the momentum advances. A step scales with `learning_rate` and `max_step`.
      - Telemetry is of two norms, the gradient's and the momentum's, a collective each at most.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.mixed_clip_sgd(1.0, max_step=1.0, nu=0.5, decay=0.5)
      >>> print(optimizer.update(jnp.array([6.0]), optimizer.init(jnp.zeros(1)))[0])  # 3 and 6, cut
      [-1.]

    References:
      Zhang et al., "Improved Analysis of Clipping Algorithms", arXiv 2010.02519, Algorithm 1.
    """
    return _clip_momentum(
        learning_rate, max_step, response, decay, nu, weight_decay, nonfinite, axis_name
    )


def momentum_clip_sgd(
    learning_rate: ScalarOrSchedule,
    max_step: ScalarOrSchedule,
    *,
    decay: Scalar = 0.9,
    response: str = "hard",
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Move along the momentum, clipped by its own norm.

    The clip sees the averaged gradient, so it acts less often than a clip of the gradient does.
    Prefer it where single large gradients are harmless but long steps are not.

        m_t = b m_{t-1} + (1 - b) g_t,  x_{t+1} = x_t - min(eta_t, G/||m_t||) m_t

    Args:
      learning_rate: `eta`, as for `mixed_clip_sgd`.
      max_step: `G`, as for `mixed_clip_sgd`.
      decay: `b`, as for `mixed_clip_sgd`; default .9 as in the authors' code.
      response: As for `mixed_clip_sgd`.
      weight_decay: As for `mixed_clip_sgd`.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, as `mixed_clip_sgd`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.momentum_clip_sgd(1.0, max_step=2.0, decay=0.5)
      >>> print(optimizer.update(jnp.array([6.0]), optimizer.init(jnp.zeros(1)))[0])  # 3, cut to 2
      [-2.]

    References:
      Zhang et al., arXiv 2010.02519, Algorithm 1 with nu = 1.
    """
    return _clip_momentum(
        learning_rate, max_step, response, decay, None, weight_decay, nonfinite, axis_name
    )


def _clip_momentum(
    learning_rate: ScalarOrSchedule,
    max_step: ScalarOrSchedule,
    response: str,
    decay: Scalar,
    nu: Scalar | None,
    weight_decay: Scalar | None,
    nonfinite: NonFinite,
    axis_name: AxisName,
) -> optax.GradientTransformationExtraArgs:
    """Chain the clip of momentum, alone or mixed, with the learning rate."""
    _validate.learning_rate(learning_rate)
    if not callable(max_step):
        _validate.threshold("max_step", max_step)
    _validate.one_of("response", response, ("hard", "soft"))

    def threshold(count: Array) -> Array:
        """Compute `G/eta`: a clip there, times `eta`, is `min(eta, G/n)`. Infinite at rate zero."""
        rate, longest = (
            _validate.to_float(value(count) if callable(value) else value, float)
            for value in (learning_rate, max_step)
        )
        moves = rate > 0
        return jnp.where(moves, longest / jnp.where(moves, rate, 1), jnp.inf)

    cut = norms.clip(threshold, response="hard" if response == "hard" else "rational")
    return chain(
        scale_by_momentum_norm(
            cut,
            decay=decay,
            nu=nu,
            weight_decay=weight_decay,
            nonfinite=nonfinite,
            axis_name=axis_name,
        ),
        optax.scale_by_learning_rate(learning_rate),
    )
