"""Laws of the noise of labels under which the dynamics of clipped SGD are known.

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
from clipax._typing import Scalar
from clipax.theory.dynamics._arguments import check_size, find_limits
from clipax.theory.dynamics._reduction_factors import (
    LaplaceNoise,
    MixtureNoise,
    ScaleMixtureNoise,
    UniformNoise,
)

__all__ = [
    "cauchy_noise",
    "empirical_noise",
    "gaussian_noise",
    "laplace_noise",
    "mixture_noise",
    "rademacher_noise",
    "student_t_noise",
    "uniform_noise",
]

# Below e^-37 a weight is lost beside 1 in float64.
_NEGLIGIBLE = 37.0
# Of which the squares are numbers of float64.
_SMALLEST, _LARGEST, _ = find_limits(np.float64)


def gaussian_noise(sigma: Scalar) -> ScaleMixtureNoise:
    """Describe Gaussian noise of mean zero.

    Args:
      sigma: Standard deviation, positive; in units of the labels.

    Returns:
      A `LabelNoise`, for `reduction_factors`, `homogenized_risk` and their neighbours.

    Example:
      >>> from clipax.theory import dynamics
      >>> dynamics.gaussian_noise(2.0).second_moment
      4.0
    """
    check_size("sigma", sigma)
    return ScaleMixtureNoise(np.ones(1), _array(sigma)[None] ** 2, sigma**2, sigma)


def laplace_noise(sigma: Scalar) -> LaplaceNoise:
    """Describe Laplace noise, of scale `sigma/sqrt(2)`.

    Args:
      sigma: Standard deviation, positive; in units of the labels.

    Returns:
      A `LabelNoise`.

    Example:
      >>> from clipax.theory import dynamics
      >>> dynamics.laplace_noise(2.0).second_moment
      4.0
    """
    check_size("sigma", sigma)
    return LaplaceNoise(sigma / math.sqrt(2), sigma**2, sigma)


def uniform_noise(sigma: Scalar) -> UniformNoise:
    """Describe uniform noise, between `-sqrt(3) sigma` and `sqrt(3) sigma`.

    Args:
      sigma: Standard deviation, positive; in units of the labels.

    Returns:
      A `LabelNoise`.

    Example:
      >>> from clipax.theory import dynamics
      >>> dynamics.uniform_noise(2.0).second_moment
      4.0
    """
    check_size("sigma", sigma)
    return UniformNoise(math.sqrt(3) * sigma, sigma**2, sigma)


def rademacher_noise(sigma: Scalar, probability: Scalar) -> MixtureNoise:
    """Describe noise that is rare and large: of size `sigma/sqrt(probability)`, or absent.

    Args:
      sigma: Standard deviation, positive; in units of the labels.
      probability: Probability of noise, in (0, 1]; either sign is equally likely.

    Returns:
      A `LabelNoise`.

    Example:
      >>> from clipax.theory import dynamics
      >>> dynamics.rademacher_noise(2.0, 0.25).means.tolist()
      [-4.0, 0.0, 4.0]
    """
    check_size("sigma", sigma)
    _validate.within("probability", probability, 0, 1, brackets="(]")
    # Subnormal numbers lose the digits of half of it.
    _validate.within("probability", probability, 1e-300, 1)
    size, half = sigma / probability**0.5, probability / 2
    if not isinstance(size, jax.Array):
        _check_reach("probability", probability, "`sigma`/sqrt(`probability`)", size)
    means = _array(size) * np.array([-1.0, 0.0, 1.0])
    weights = np.array([0.0, 1.0, 0.0]) + _array(half) * np.array([1.0, -2.0, 1.0])
    return MixtureNoise(weights, means, np.zeros(3), sigma**2, sigma)


def student_t_noise(freedom: float, scale: Scalar) -> ScaleMixtureNoise:
    """Describe noise of Student's t distribution.

    A mixture of Gaussians whose precision has a gamma law, integrated over its logarithm by the
    trapezoidal rule, which converges geometrically.

    Args:
      freedom: Degrees of freedom, at least 0.2 and finite; concrete. Up to 2 the variance is
        infinite.
      scale: Scale, positive; in units of the labels. The raw one: the standard deviation is
        `sqrt(freedom/(freedom - 2))` times as large.

    Returns:
      A `LabelNoise`.

    Example:
      >>> from clipax.theory import dynamics
      >>> print(f"{dynamics.student_t_noise(3.0, 2.0).second_moment:.1f}")
      12.0
    """
    freedom = _validate.concrete("freedom", freedom)
    _validate.within("freedom", freedom, 0.2, math.inf, brackets="[)")
    check_size("scale", scale)
    reach = 2 * _NEGLIGIBLE / freedom
    # The density of u = log(precision) is e^(freedom/2 (u - e^u)), up to a constant.
    step = min(0.25, 0.8 / math.sqrt(freedom))
    width = reach + math.sqrt(2 * reach)
    u = np.arange(-width, math.log1p(width) + step, step)
    exponent = freedom / 2 * _subtract_exponential(u)
    u, weights = u[exponent > -_NEGLIGIBLE], np.exp(exponent[exponent > -_NEGLIGIBLE])
    # e^60: large enough that every threshold clips, small enough for float32.
    with np.errstate(over="ignore"):
        variances = _array(scale) ** 2 * np.exp(np.minimum(-u, 60))
    if freedom > 2:
        ratio = freedom / (freedom - 2)
        if not isinstance(scale, jax.Array):
            _check_reach("scale", scale, "the standard deviation", scale * math.sqrt(ratio))
        moment = scale**2 * ratio
        return ScaleMixtureNoise(weights / weights.sum(), variances, moment, moment**0.5)
    return ScaleMixtureNoise(weights / weights.sum(), variances, math.inf, scale)


def cauchy_noise(scale: Scalar) -> ScaleMixtureNoise:
    """Describe Cauchy noise, Student's t of one degree of freedom.

    Args:
      scale: Scale, positive: half of the noise is no larger; in units of the labels.

    Returns:
      A `LabelNoise`.

    Example:
      >>> from clipax.theory import dynamics
      >>> dynamics.cauchy_noise(2.0).second_moment
      inf
    """
    return student_t_noise(1.0, scale)


def mixture_noise(weights: Any, means: Any, variances: Any) -> MixtureNoise:
    """Describe a mixture of Gaussians.

    Args:
      weights: Probabilities of the components, non-negative with a sum of 1.
      means: Means of the components; in units of the labels.
      variances: Variances of the components, non-negative; zero for an atom.

    Returns:
      A `LabelNoise`.

    Example:
      >>> from clipax.theory import dynamics
      >>> dynamics.mixture_noise([0.5, 0.5], [-1.0, 3.0], [0.0, 2.0]).second_moment
      6.0
    """
    weights, means, variances = (
        np.asarray(values, np.float64) for values in (weights, means, variances)
    )
    if not (weights.ndim == 1 and weights.shape == means.shape == variances.shape):
        shapes = f"{weights.shape}, {means.shape} and {variances.shape}"
        raise ValueError(
            f"`weights`, `means` and `variances` must have one axis of the same size, got {shapes}."
        )
    # Written so that NaN fails.
    if not (np.all(weights >= 0) and abs(weights.sum() - 1) <= 1e-6):
        raise ValueError(f"`weights` must be non-negative and sum to 1, got {weights}.")
    if not np.isfinite(means).all():
        raise ValueError(f"`means` must be finite, got {means}.")
    if not (np.all(variances >= 0) and np.isfinite(variances).all()):
        raise ValueError(f"`variances` must be non-negative and finite, got {variances}.")
    largest, widest = np.abs(means).max(), np.sqrt(variances).max()
    # A small component beside a large one does no harm.
    name = "means" if largest >= widest else "variances"
    size = float(max(largest, widest))
    _check_reach(name, size, "the largest size", size)
    moment = float(weights @ (means**2 + variances))
    return MixtureNoise(weights, means, variances, moment, math.sqrt(moment))


def empirical_noise(residuals: Any) -> MixtureNoise:
    """Describe noise by a sample of it, each value equally likely.

    Args:
      residuals: Deviations of labels, an array of one axis; in units of the labels.

    Returns:
      A `LabelNoise`. A factor takes time in proportion to the sample.

    Example:
      >>> from clipax.theory import dynamics
      >>> dynamics.empirical_noise([1.0, -1.0, 2.0, -2.0]).second_moment
      2.5
    """
    residuals = np.asarray(residuals, np.float64)
    if residuals.ndim != 1 or not residuals.size:
        raise ValueError(
            f"`residuals` must have one axis and a value, got shape {residuals.shape}."
        )
    if not np.isfinite(residuals).all():
        raise ValueError("`residuals` must be finite, got NaN or infinity.")
    largest = float(np.abs(residuals).max())
    _check_reach("residuals", largest, "the largest", largest)
    weights = np.full(residuals.size, 1 / residuals.size)
    moment = float(np.mean(residuals**2))
    return MixtureNoise(weights, residuals, np.zeros(residuals.size), moment, math.sqrt(moment))


def _check_reach(name: str, value: Any, words: str, size: Any) -> None:
    """Raise where the square of a size leaves float64; there may be no noise at all."""
    if not (size == 0 or _SMALLEST <= size <= _LARGEST):
        raise ValueError(
            f"`{name}` must be such that {words} is 0 or in [{_SMALLEST:.2g}, {_LARGEST:.2g}], got "
            f"{value!r}."
        )


def _subtract_exponential(u: np.ndarray) -> np.ndarray:
    """Compute `u - e^u + 1`, by a series where that cancels."""
    series = -(u**2) / 2 * (1 + u / 3 * (1 + u / 4 * (1 + u / 5 * (1 + u / 6))))
    return np.where(np.abs(u) < 1e-2, series, u - np.expm1(u))


def _array(value: Any) -> Any:
    """Convert `value` to an array, in float64 where it is not traced."""
    return jnp.asarray(value) if isinstance(value, jax.Array) else np.asarray(value, np.float64)
