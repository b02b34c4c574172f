"""Thresholds that grow as a power of time.

The exponents are those under which clipped SGD with heavy-tailed noise is proven to converge
(Sadiev et al. 2023; Nguyen et al. 2023), and the default of this library's design.
"""

from __future__ import annotations

import jax.numpy as jnp
import optax

from clipax import _validate
from clipax._typing import Array, Scalar

__all__ = ["EXPONENTS", "power"]

EXPONENTS = {
    "design": lambda alpha: 1 / (2 * alpha),
    "convex": lambda alpha: 1 / alpha,
    "nonconvex": lambda alpha: 1 / (3 * alpha - 2),
}
"""From the tail index to the exponent of time, by regime."""


def power(
    sigma: Scalar,
    alpha: Scalar,
    regime: str = "design",
    *,
    horizon: int | None = None,
) -> optax.Schedule:
    """Make a threshold that grows as a power of time.

    Under noise without a variance a constant threshold leaves a bias and none leaves outliers; this
    removes both. Prefer it for long runs with a decreasing rate, the tail index known roughly.

        c_t = sigma t^p,  t = count + 1

    with `p = 1/(2 alpha)` (`"design"`), `1/alpha` (`"convex"`: convex objective, averaged iterates)
    or `1/(3 alpha - 2)` (`"nonconvex"`). It never decreases.

    Args:
      sigma: First threshold, positive: noise scale `(E||g - grad f||^alpha)^(1/alpha)`.
      alpha: Tail index in (1, 2]: the noise has moments up to this order, at 2 a finite variance.
      regime: `"design"` (default), `"convex"` or `"nonconvex"`.
      horizon: Steps T of the run, at least 1, for the constant `sigma T^p`; None (default).

    Returns:
      An `optax.Schedule`: from the 0-based step count, which may be traced, to a scalar threshold.

    Notes:
      - `"design"`, in neither paper, equals `"nonconvex"` at `alpha = 2` and grows more slowly
        below: still convergent, at the rate known for an unknown tail index.
      - `sigma` stands for the papers' constants too (smoothness, distance, probability, log of t).

    Example:
      >>> import clipax
      >>> schedule = clipax.thresholds.power(sigma=2.0, alpha=2.0, regime="convex")
      >>> [float(schedule(count)) for count in (0, 3, 24)]
      [2.0, 4.0, 10.0]

    References:
      Sadiev et al., ICML 2023, arXiv 2302.00999; Nguyen et al., NeurIPS 2023, arXiv 2304.01119.
    """
    _validate.positive("sigma", sigma)
    _validate.within("alpha", alpha, 1, 2, brackets="(]")
    _validate.one_of("regime", regime, EXPONENTS)
    if horizon is not None:
        horizon = _validate.integer("horizon", horizon, minimum=1)
    exponent = EXPONENTS[regime](alpha)

    def schedule(count: Scalar) -> Array:
        # The default float type: float64 where x64 is on, else float32.
        time = jnp.asarray(count, float) + 1 if horizon is None else jnp.asarray(horizon, float)
        return sigma * time**exponent

    return schedule
