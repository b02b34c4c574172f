"""Reduction factors of clipping: the share of residuals that pass, and their second moment.

N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of SGD with
Gradient Clipping in High-Dimensions", arXiv 2406.11733.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, erfc, ndtr

from clipax import _validate
from clipax._typing import Array
from clipax.theory.dynamics._arguments import check_finite, check_noise

__all__ = [
    "LabelNoise",
    "LaplaceNoise",
    "MixtureNoise",
    "ReductionFactors",
    "ScaleMixtureNoise",
    "UniformNoise",
    "check_numbers",
    "compute_factors",
    "reduction_factors",
]

T = TypeVar("T")

_ROOT_TWO = math.sqrt(2)
# Deviations beyond which a normal law has no mass in float64.
_FAR = 40.0
# 1/3, 1/(3*5), 1/(3*5*7), ...: more than float64 needs up to z = 1; highest order first.
_ODD = 1 / np.cumprod(np.arange(3.0, 33.0, 2.0))[::-1]
# -1, 1*3, -1*3*5, ...: of the asymptotic series of erfcx.
_ASYMPTOTIC = np.cumprod(-np.arange(1.0, 29.0, 2.0))[::-1]
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_FEW_NODES, _FEW_WEIGHTS = np.polynomial.legendre.leggauss(10)
# From 0 to 1, dense at 0: of the integral over u^2, with u evenly covered.
_ROOTS = (np.polynomial.legendre.leggauss(20)[0] + 1) / 2
_ROOT_WEIGHTS = np.polynomial.legendre.leggauss(20)[1] * _ROOTS


class ReductionFactors(NamedTuple):
    """The share and the second moment of a clipped residual.

    Attributes:
      mu: Share of the residuals within the threshold, the factor of the mean gradient.
      m2: Second moment of the clipped residual, the size of the noise.
    """

    mu: Array
    m2: Array


class LabelNoise(Protocol):
    """A law of the noise of labels; `gaussian_noise` and its neighbours make them.

    Attributes:
      second_moment: Mean square, infinite for the heaviest tails.
      scale: Its size: the root of the second moment, or a raw scale where that is infinite.
    """

    @property
    def second_moment(self) -> Any:
        """Mean square."""

    @property
    def scale(self) -> Any:
        """Size."""

    def factors(self, square: Array, threshold: Array) -> tuple[Array, Array]:
        """Compute the two factors, for a Gaussian signal of variance `square`, finite threshold."""


class ScaleMixtureNoise(NamedTuple):
    """Gaussians of mean zero: one, or many as nodes of a quadrature."""

    weights: Any
    variances: Any
    second_moment: Any
    scale: Any

    def factors(self, square: Array, threshold: Array) -> tuple[Array, Array]:
        """Compute both factors without cancellation, also far above the threshold."""
        variances = square[..., None] + self.variances
        c = threshold[..., None]
        z = jnp.minimum(c / jnp.sqrt(_avoid_zero(variances)), _FAR)
        inside = erf(z / _ROOT_TWO)
        density = math.sqrt(2 / math.pi) * jnp.exp(-(z**2) / 2)
        # E[w^2; |w| <= c] is S^2 F(z), F(z) = density * z^3 (1/3 + z^2/15 + z^4/105 + ...).
        low = jnp.minimum(z, 1)
        small = c**2 * low * density * jnp.polyval(jnp.asarray(_ODD, z.dtype), low**2)
        second = jnp.where(z < 1, small, variances * (inside - z * density))
        second = second + c**2 * erfc(z / _ROOT_TWO)
        return jnp.sum(self.weights * inside, -1), jnp.sum(self.weights * second, -1)


class MixtureNoise(NamedTuple):
    """Gaussians of any mean; without variance they are atoms."""

    weights: Any
    means: Any
    variances: Any
    second_moment: Any
    scale: Any

    def factors(self, square: Array, threshold: Array) -> tuple[Array, Array]:
        """Compute moments of truncated Gaussians, by quadrature where closed forms cancel."""
        deviation = jnp.sqrt(_avoid_zero(square[..., None] + self.variances))
        # By symmetry only the size of the mean matters.
        c, m = threshold[..., None], jnp.abs(jnp.asarray(self.means, deviation.dtype))
        # Stacked, so that the distribution function is compiled once.
        ends = jnp.clip(jnp.stack([-c - m, c - m, m - c]) / deviation, -_FAR, _FAR)
        below, above, beyond = ndtr(ends)
        lower, upper, _ = _normal_density(ends)
        inside = above - below
        second = (m**2 + deviation**2) * inside
        second += deviation * ((m - c) * lower - (m + c) * upper)
        # Less than a deviation wide: the integrand is nearly a polynomial.
        height, centre = jnp.minimum(c / deviation, 1), m / deviation
        mass, moment = jnp.zeros_like(inside), jnp.zeros_like(inside)
        for node, weight in zip(_FEW_NODES, _FEW_WEIGHTS, strict=True):
            part = weight * height * _normal_density(jnp.clip(node * height - centre, -_FAR, _FAR))
            mass, moment = mass + part, moment + node**2 * part
        narrow = c < deviation
        inside = jnp.where(narrow, mass, inside)
        outside = jnp.where(narrow, 1 - mass, below + beyond)
        second = jnp.where(narrow, c**2 * moment, second) + c**2 * outside
        return jnp.sum(self.weights * inside, -1), jnp.sum(self.weights * second, -1)


class LaplaceNoise(NamedTuple):
    """Density `exp(-|x|/b)/(2b)` with b the `width`."""

    width: Any
    second_moment: Any
    scale: Any

    def factors(self, square: Array, threshold: Array) -> tuple[Array, Array]:
        """Compute both factors by erfcx, or by quadrature where that cancels."""
        b, c = jnp.asarray(self.width, square.dtype), threshold
        s = jnp.maximum(jnp.sqrt(square), 1e-12 * b)
        places = jnp.asarray(np.append(_ROOTS**2, 1.0), s.dtype)
        first, second = self._compute_sides(s[..., None], c[..., None] * places)
        # The residual's density at w is (first + second)/(2b) there.
        sums, first, second = (first + second)[..., :-1], first[..., -1], second[..., -1]
        z = jnp.minimum(c / s, _FAR)
        outside = erfc(z / _ROOT_TWO)
        mu = 1 - outside - first + second
        truncated = s**2 * (erf(z / _ROOT_TWO) - 2 * z * _normal_density(z))
        m2 = truncated + c**2 * outside - 2 * b * c * (first + second) + 2 * b**2 * mu
        # m2 = c^2 (1 - 2 int_0^c f(w) (1 - w^2/c^2) dw).
        mass = c[..., None] / b * jnp.asarray(_ROOT_WEIGHTS, s.dtype) * sums
        small = c < (0.25 if s.dtype == jnp.float32 else 1e-3) * jnp.maximum(b, s)
        mu = jnp.where(small, jnp.sum(mass, -1), mu)
        return mu, jnp.where(small, c**2 * (1 - jnp.sum(mass * (1 - places[:-1] ** 2), -1)), m2)

    def _compute_sides(self, s: Array, c: Array) -> tuple[Array, Array]:
        """Compute `exp(r^2/2 -+ c/b) Phi(+-c/s - r)` with `r = s/b`."""
        ratio, z = s / self.width, jnp.minimum(c / s, 1e15)
        tail = jnp.exp(-(jnp.minimum(z, _FAR) ** 2) / 2) / 2
        # The first form overflows in neither region.
        near = jnp.exp(jnp.minimum(ratio**2 / 2 - c / self.width, 0)) * ndtr(z - ratio)
        far = tail * _erfcx(jnp.maximum(ratio - z, 0) / _ROOT_TWO)
        return jnp.where(z > ratio, near, far), tail * _erfcx((z + ratio) / _ROOT_TWO)


class UniformNoise(NamedTuple):
    """Uniform on `[-half, half]`."""

    half: Any
    second_moment: Any
    scale: Any

    def factors(self, square: Array, threshold: Array) -> tuple[Array, Array]:
        """Integrate the density of the residual, which is flat but for a layer about the end."""
        a, c = jnp.asarray(self.half, square.dtype), threshold
        s = jnp.sqrt(_avoid_zero(square))
        first, last = jnp.maximum(a - 8 * s, 0), a + 8 * s
        # The layer below the threshold, and the layer above it.
        starts = jnp.stack([jnp.minimum(first, c), jnp.maximum(first, c)])
        widths = jnp.stack([jnp.minimum(last, c), jnp.maximum(last, c)]) - starts
        nodes = jnp.asarray((_NODES + 1) / 2, s.dtype)
        w = starts[..., None] + widths[..., None] * nodes
        near, far = ndtr(jnp.clip(jnp.stack([a - w, -a - w]) / s[..., None], -_FAR, _FAR))
        # The difference cancels where the noise is small beside the signal: a series in a/s.
        ratio, z = (a / s)[..., None], jnp.minimum(w / s[..., None], _FAR)
        narrow = ratio < (0.05 if s.dtype == jnp.float32 else 1e-3)
        flat = 2 * _normal_density(z) * (1 + ratio**2 * (z**2 - 1) / 6)
        density = jnp.where(narrow, flat / s[..., None], (near - far) / a)
        mass = jnp.asarray(_WEIGHTS / 2, s.dtype) * widths[..., None] * density
        inside, outside = jnp.sum(mass, -1)
        outside = outside + (starts[1] - c) / a
        second = starts[0] ** 2 * (starts[0] / (3 * a)) + jnp.sum(mass[0] * w[0] ** 2, -1)
        return inside + starts[0] / a, second + c**2 * outside


def reduction_factors(noise: LabelNoise, risk: Any, threshold: Any) -> ReductionFactors:
    """Compute the factors by which clipping reduces a gradient and its noise.

    For streaming least squares in high dimensions, one sample a step: the norm of a gradient is
    then nearly proportional to the residual, and clipping it clips the residual.

        mu_c(R) = P(|w| <= c),
        m_{2,c}(R) = E min(w^2, c^2),
        w = sqrt(2 R) Z - epsilon

    with `R` the `risk`, `c` the `threshold`, `epsilon` the `noise` and `Z` a standard normal. Both
    can be traced, in float32 and float64.

    Args:
      noise: Law of the noise of the labels, from `gaussian_noise` and its neighbours.
      risk: Half the mean square of the predictions' error, non-negative; labels squared. A number
        or an array; broadcast with `threshold`.
      threshold: Threshold on the residual, positive, infinity included; in units of the labels. On
        the gradient norm it is `sqrt(d)` times as large, d the intrinsic dimension.

    Returns:
      `ReductionFactors`: `mu` and `m2`. `m2` is infinite where nothing clips noise without a
      second moment.

    Notes:
      It has the factor of the noise divided by the residual's variance, `nu = m2/(2R + sigma^2)`;
      `m2` exists for noise of infinite variance too.

    Example:
      >>> from clipax.theory import dynamics
      >>> factors = dynamics.reduction_factors(dynamics.gaussian_noise(5.0), 3.0, 4.0)
      >>> print(f"{factors.mu:.4f} {factors.m2:.3f}")
      0.5275 10.185

    References:
      N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of
      SGD with Gradient Clipping in High-Dimensions", arXiv 2406.11733.
    """
    if not jnp.ndim(risk):
        _validate.non_negative("risk", risk)
    if not jnp.ndim(threshold):
        _validate.threshold("threshold", threshold)
    noise = check_noise(noise, risk, threshold)
    return check_numbers(_compiled(noise, risk, threshold))


def compute_factors(noise: LabelNoise, risk: Array, threshold: Array) -> ReductionFactors:
    """`reduction_factors` without checks, for use inside compiled functions."""
    dtype = jnp.result_type(float)
    risk, threshold = jnp.broadcast_arrays(jnp.asarray(risk, dtype), jnp.asarray(threshold, dtype))
    clips = jnp.isfinite(threshold)
    mu, m2 = noise.factors(2 * risk, jnp.where(clips, threshold, 1))
    unclipped = 2 * risk + jnp.asarray(noise.second_moment, dtype)
    return ReductionFactors(jnp.where(clips, mu, 1), jnp.where(clips, m2, unclipped))


_compiled = jax.jit(compute_factors)


def check_numbers(results: T) -> T:
    """Return the results; raise where one is NaN."""
    rule = (
        "`noise`, `risk` and `threshold` must be numbers whose squares the type of the result "
        "holds; the result would be NaN."
    )
    return check_finite(results, rule, lambda values: ~np.isnan(values))


def _avoid_zero(x: Array) -> Array:
    return jnp.maximum(x, jnp.finfo(x.dtype).tiny)


def _normal_density(x: Array) -> Array:
    return jnp.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def _erfcx(x: Array) -> Array:
    """Compute `exp(x^2) erfc(x)` for x >= 0."""
    switch = 4.0 if x.dtype == jnp.float32 else 8.0
    low, high = jnp.minimum(x, switch), jnp.maximum(x, switch)
    inverse = 1 / (2 * high**2)
    series = 1 + inverse * jnp.polyval(jnp.asarray(_ASYMPTOTIC, x.dtype), inverse)
    return jnp.where(x < switch, jnp.exp(low**2) * erfc(low), series / (high * math.sqrt(math.pi)))
