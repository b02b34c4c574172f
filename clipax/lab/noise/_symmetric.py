"""Laws that are symmetric about zero."""

from __future__ import annotations

import math

import jax.numpy as jnp

from clipax import _validate
from clipax._typing import Array
from clipax.lab.noise._law import Law, describe_call
from clipax.lab.noise._words import flip, half_unit, sine, unit

__all__ = ["cauchy", "gaussian", "laplace", "pareto", "rademacher_like", "student_t", "uniform"]


def gaussian(sigma: float = 1.0) -> Law:
    """Make normal noise of mean zero and standard deviation `sigma`, by Box and Muller.

    Two words make one variate; it reaches 6.7 standard deviations. All moments are finite.
    `standardised()` has deviation 1.
    """
    _validate.positive("sigma", sigma)

    def transform(radius: Array, angle: Array) -> Array:
        # The cosine of a uniform angle is, up to its sign, the sine of one in the first quadrant.
        size = jnp.sqrt(-2.0 * jnp.log(unit(radius)))
        return flip(angle, sigma * size * sine(0.5 * math.pi * half_unit(angle)))

    return Law(describe_call("gaussian", sigma), 2, transform, 0.0, sigma**2)


def laplace(scale: float = 1.0) -> Law:
    """Make Laplace noise, density `exp(-|t|/scale)/(2 scale)`: a signed exponential.

    Mean 0, variance `2 scale^2`, all moments finite; it reaches 22 scales.
    """
    _validate.positive("scale", scale)

    def transform(word: Array) -> Array:
        return flip(word, -scale * jnp.log(half_unit(word)))

    return Law(describe_call("laplace", scale), 1, transform, 0.0, 2 * scale**2)


def uniform(sigma: float = 1.0) -> Law:
    """Make uniform noise of mean 0 and deviation `sigma`, within `+-sqrt(3) sigma`."""
    _validate.positive("sigma", sigma)

    def transform(word: Array) -> Array:
        return flip(word, math.sqrt(3) * sigma * half_unit(word))

    return Law(describe_call("uniform", sigma), 1, transform, 0.0, sigma**2)


def student_t(df: float, scale: float = 1.0) -> Law:
    """Make Student's t with `df >= 0.5` degrees of freedom times `scale`, by Bailey's polar form.

    Exact for every `df`: `sqrt(df (U^(-2/df) - 1)) cos(2 pi V)`. Tail index `df`; mean 0 for
    `df > 1`; variance `scale^2 df/(df - 2)` for `df > 2`, infinite down to 1. `standardised()`
    divides by the deviation where it is finite, and does nothing otherwise.

    References:
      R. W. Bailey, "Polar generation of random variates with the t-distribution", Mathematics of
      Computation 62, 1994.
    """
    _validate.within("df", df, 0.5, 1e4)
    _validate.positive("scale", scale)

    def transform(radius: Array, angle: Array) -> Array:
        # The large factor stands apart from the root, so that its square is never formed.
        log_u = jnp.log(unit(radius))
        root = jnp.sqrt(-df * jnp.expm1(2.0 * log_u / df))
        size = scale * jnp.exp(-log_u / df) * root
        return flip(angle, size * sine(0.5 * math.pi * half_unit(angle)))

    variance = scale**2 * df / (df - 2) if df > 2 else math.inf if df > 1 else math.nan
    mean = 0.0 if df > 1 else math.nan
    return Law(describe_call("student_t", df, scale), 2, transform, mean, variance, df)


def cauchy(scale: float = 1.0) -> Law:
    """Make Cauchy noise, density `scale/(pi (scale^2 + t^2))`: no mean, tail index 1.

    The tangent is taken of the distance from `pi/2`, so that the tail reaches `2^32 2/pi` scales.
    `standardised()` does nothing.
    """
    _validate.positive("scale", scale)

    def transform(word: Array) -> Array:
        u = half_unit(word)
        return flip(word, scale * sine(0.5 * math.pi * (1.0 - u)) / sine(0.5 * math.pi * u))

    return Law(describe_call("cauchy", scale), 1, transform, math.nan, math.nan, 1.0)


def pareto(alpha: float = 1.5) -> Law:
    """Make symmetric Pareto (Lomax) noise: density `alpha/(2 (1 + |t|)^(alpha + 1))`.

    `|x| = U^(-1/alpha) - 1` with a random sign. For `alpha = 1.5`, the default, this is the density
    `3/(4 (1 + |t|)^2.5)` of Chezhegov et al. 2025. Tail index `alpha >= 0.5`; mean 0 above 1;
    variance `2/((alpha - 1)(alpha - 2))` above 2, infinite down to 1.
    """
    _validate.within("alpha", alpha, 0.5, 100.0)

    def transform(word: Array) -> Array:
        return flip(word, jnp.expm1(-jnp.log(half_unit(word)) / alpha))

    variance = 2 / ((alpha - 1) * (alpha - 2)) if alpha > 2 else math.inf
    mean = 0.0 if alpha > 1 else math.nan
    return Law(
        describe_call("pareto", alpha),
        1,
        transform,
        mean,
        variance if alpha > 1 else math.nan,
        alpha,
    )


def rademacher_like(sigma: float = 1.0, q: float = 1.0) -> Law:
    """Make noise that is `+-sigma/sqrt(q)` with probability `q/2` each, and else 0.

    Mean 0, standard deviation `sigma`; `q = 1` is a scaled random sign (Marshall et al. 2025).
    """
    _validate.positive("sigma", sigma)
    _validate.within("q", q, 0.0, 1.0, brackets="(]")

    def transform(word: Array) -> Array:
        size = jnp.where(half_unit(word) <= q, sigma / math.sqrt(q), 0.0)
        return flip(word, size.astype(jnp.float32))

    return Law(describe_call("rademacher_like", sigma, q), 1, transform, 0.0, sigma**2)
