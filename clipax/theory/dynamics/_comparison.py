"""The criterion by which clipping helps, and the threshold at which it helps most.

N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of SGD with
Gradient Clipping in High-Dimensions", arXiv 2406.11733.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from clipax import _validate
from clipax._typing import Array
from clipax.theory.dynamics._arguments import check_noise
from clipax.theory.dynamics._reduction_factors import (
    LabelNoise,
    check_numbers,
    compute_factors,
    reduction_factors,
)

__all__ = ["clipping_comparison", "clipping_stability", "find_best_threshold", "max_ccc_threshold"]

# Candidates in units of the residual's scale, and rounds of a finer search about the best.
_GRID = np.geomspace(0.01, 8, 128)
_FINER = np.linspace(-1, 1, 17)
_ROUNDS = 3
# The criterion tends to 1 for large thresholds: it must exceed 1 by this and by rounding errors.
_MARGIN = 1e-9


def clipping_stability(noise: LabelNoise, risk: Any, threshold: Any) -> Array:
    """Compute the factor by which clipping extends the learning rates that are stable.

        mu_c(R)/nu_c(R),  nu_c = m_{2,c}/(2 R + sigma^2)

    with `mu_c` and `m_{2,c}` of `reduction_factors`, `R` the `risk`, `c` the `threshold` and
    `sigma^2` the second moment of the `noise`. Above 1, clipped SGD is stable at larger learning
    rates than SGD.

    Args:
      noise: Law of the noise of the labels, from `gaussian_noise` and its neighbours.
      risk: Half the mean square of the predictions' error, non-negative; labels squared.
      threshold: Threshold on the residual, positive, infinity included; labels.

    Returns:
      The factor, an array; 1 for an infinite threshold, infinite for noise without a second moment.

    Example:
      >>> from clipax.theory import dynamics
      >>> print(f"{dynamics.clipping_stability(dynamics.gaussian_noise(5.0), 3.0, 4.0):.4f}")
      1.6056

    References:
      N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of
      SGD with Gradient Clipping in High-Dimensions", arXiv 2406.11733.
    """
    mu, m2 = reduction_factors(noise, risk, threshold)
    return _compare_to_unclipped(noise, risk, threshold, mu / m2)


def clipping_comparison(noise: LabelNoise, risk: Any, threshold: Any) -> Array:
    """Compute the criterion (CCC) that says whether clipped SGD can be faster than SGD.

        mu_c(R)^2/nu_c(R),  nu_c = m_{2,c}/(2 R + sigma^2)

    with `mu_c` and `m_{2,c}` of `reduction_factors`, `R` the `risk`, `c` the `threshold` and
    `sigma^2` the second moment of the `noise`. With the learning rate over `mu_c`, clipped SGD has
    the drift of SGD and this many times less noise. For Gaussian noise it is never above 1 (Theorem
    4).

    Args:
      noise: Law of the noise of the labels, from `gaussian_noise` and its neighbours.
      risk: Half the mean square of the predictions' error, non-negative; labels squared.
      threshold: Threshold on the residual, positive, infinity included; labels.

    Returns:
      The criterion, an array; 1 for an infinite threshold, infinite for noise without a second
      moment.

    Example:
      >>> from clipax.theory import dynamics
      >>> for noise in (dynamics.gaussian_noise(5.0), dynamics.rademacher_noise(5.0, 0.2)):
      ...     print(f"{dynamics.clipping_comparison(noise, 3.0, 4.0):.4f}")
      0.8470
      2.2313

    References:
      N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of
      SGD with Gradient Clipping in High-Dimensions", arXiv 2406.11733.
    """
    mu, m2 = reduction_factors(noise, risk, threshold)
    return _compare_to_unclipped(noise, risk, threshold, mu * (mu / m2))


def max_ccc_threshold(noise: LabelNoise, risk: Any) -> Array:
    """Compute the threshold at which clipping helps most.

        c* = argmax_c mu_c(R)^2/m_{2,c}(R)

    with `mu_c` and `m_{2,c}` of `reduction_factors` and `R` the `risk`: the largest
    `clipping_comparison`. It is sought between .01 and 8 times the residual's scale,
    `sqrt(2 R + sigma^2)`, and infinite where no criterion exceeds 1 by 1e-9 (in float32, by the
    rounding errors, 8e-6).

    Args:
      noise: Law of the noise of the labels, from `gaussian_noise` and its neighbours.
      risk: Half the mean square of the predictions' error, non-negative; labels squared.

    Returns:
      The threshold on the residual, an array; infinite where clipping does not help.

    Notes:
      For noise without a variance the criterion is infinite at every threshold; the best one is
      still found, with the noise's raw scale for its deviation in the range above.

    Example:
      >>> from clipax.theory import dynamics
      >>> print(dynamics.max_ccc_threshold(dynamics.gaussian_noise(5.0), 3.0))
      inf
      >>> print(f"{dynamics.max_ccc_threshold(dynamics.rademacher_noise(5.0, 0.2), 0.5):.2f}")
      0.86

    References:
      N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of
      SGD with Gradient Clipping in High-Dimensions", arXiv 2406.11733.
    """
    if not jnp.ndim(risk):
        _validate.non_negative("risk", risk)
    return check_numbers(_compiled(check_noise(noise, risk), risk))


def find_best_threshold(noise: LabelNoise, risk: Array) -> Array:
    """`max_ccc_threshold` without checks, for use inside compiled functions."""
    dtype = jnp.result_type(float)
    risk = jnp.asarray(risk, dtype)[..., None]
    scale = jnp.sqrt(2 * risk + jnp.asarray(noise.scale, dtype) ** 2)

    def best(candidates: Array) -> tuple[Array, Array]:
        mu, m2 = compute_factors(noise, risk, candidates)
        # `m2` is 0 for an atom at zero without risk.
        value = jnp.where(m2 > 0, mu**2 / jnp.where(m2 > 0, m2, 1), jnp.inf)
        place = jnp.argmax(value, -1, keepdims=True)
        return (
            jnp.take_along_axis(candidates, place, -1),
            jnp.take_along_axis(value, place, -1),
        )

    def refine(round: Array, previous: tuple[Array, Array]) -> tuple[Array, Array]:
        width = math.log(_GRID[1] / _GRID[0]) * (_FINER[1] - _FINER[0]) ** round
        return best(previous[0] * jnp.exp(jnp.asarray(_FINER, dtype) * width))

    # A loop compiles the law once for all rounds.
    result = jax.lax.fori_loop(0, _ROUNDS, refine, best(scale * jnp.asarray(_GRID, dtype)))
    threshold, value = result[0][..., 0], result[1][..., 0]
    criterion = value * (2 * risk[..., 0] + jnp.asarray(noise.second_moment, dtype))
    margin = max(_MARGIN, 64 * float(jnp.finfo(dtype).eps))
    return jnp.where(criterion > 1 + margin, threshold, jnp.inf)


_compiled = jax.jit(find_best_threshold)


def _compare_to_unclipped(noise: LabelNoise, risk: Any, threshold: Any, ratio: Array) -> Array:
    moment = 2 * jnp.asarray(risk, ratio.dtype) + jnp.asarray(noise.second_moment, ratio.dtype)
    return check_numbers(jnp.where(jnp.isposinf(jnp.asarray(threshold)), 1, ratio * moment))
