"""Laws that are not symmetric, and the Weibull law in its symmetric form."""

from __future__ import annotations

import math

import jax.numpy as jnp

from clipax import _validate
from clipax._typing import Array
from clipax.lab.noise._law import Law, describe_call
from clipax.lab.noise._symmetric import gaussian
from clipax.lab.noise._words import exponential as resolved_exponential
from clipax.lab.noise._words import flip, half_unit, unit

__all__ = ["burr", "chi_square", "exponential", "skewed_pareto", "two_point", "weibull"]


def skewed_pareto(alpha: float) -> Law:
    """Make one-sided Pareto noise moved to mean zero: `U^(-1/alpha) - alpha/(alpha - 1)`.

    Tail index `alpha > 1`; variance `alpha/((alpha - 1)^2 (alpha - 2))` above 2, else infinite.
    """
    _validate.within("alpha", alpha, 1.0, 100.0, brackets="(]")

    def transform(word: Array) -> Array:
        return jnp.exp(-jnp.log(unit(word)) / alpha) - alpha / (alpha - 1.0)

    variance = alpha / ((alpha - 1) ** 2 * (alpha - 2)) if alpha > 2 else math.inf
    return Law(describe_call("skewed_pareto", alpha), 1, transform, 0.0, variance, alpha)


def exponential(scale: float = 1.0) -> Law:
    """Make one-sided exponential noise of mean `scale`; its variance is `scale^2`."""
    _validate.positive("scale", scale)
    return Law(
        describe_call("exponential", scale),
        1,
        lambda word: scale * resolved_exponential(word),
        scale,
        scale**2,
    )


def weibull(shape: float) -> Law:
    """Make symmetric Weibull noise: a signed `E^(1/shape)`, E a standard exponential.

    `P(|x| > t) = exp(-t^shape)`: heavier than any exponential for `0.1 <= shape < 1`, yet all
    moments are finite. Mean 0, variance `Gamma(1 + 2/shape)`.
    """
    _validate.within("shape", shape, 0.1, 100.0)

    def transform(word: Array) -> Array:
        size = -jnp.log(half_unit(word))
        return flip(word, size ** (1.0 / shape))

    return Law(describe_call("weibull", shape), 1, transform, 0.0, math.gamma(1 + 2 / shape))


def burr(c: float, k: float) -> Law:
    """Make one-sided Burr noise (type XII): `P(x > t) = (1 + t^c)^(-k)` for positive t.

    Tail index `c k >= 0.5`; the p-th moment below it is `k B(k - p/c, 1 + p/c)`. `standardised()`
    subtracts the mean where there is one, and divides by the deviation where that is finite.
    """
    _validate.positive("c", c)
    _validate.positive("k", k)
    _validate.within("c k", c * k, 0.5, 1e4)

    def transform(word: Array) -> Array:
        # log(U^(-1/k) - 1) for small and large values alike.
        log_size = -jnp.log(unit(word)) / k
        log_odds = log_size + jnp.log(jnp.maximum(-jnp.expm1(-log_size), 2.0**-32))
        return jnp.exp(log_odds / c)

    def moment(p: float) -> float:
        if p >= c * k:
            return math.inf
        return math.exp(
            math.log(k) + math.lgamma(k - p / c) + math.lgamma(1 + p / c) - math.lgamma(1 + k)
        )

    mean, second = moment(1), moment(2)
    variance = math.inf if math.isinf(second) else second - mean**2
    known = math.isfinite(mean)
    return Law(
        describe_call("burr", c, k),
        1,
        transform,
        mean if known else math.nan,
        variance if known else math.nan,
        c * k,
    )


def two_point(sigma: float = 1.0, p: float = 0.5) -> Law:
    """Make noise of two values: `sigma/s` with probability `p`, else `-sigma s`, `s^2 = p/(1 - p)`.

    Mean 0 and standard deviation `sigma` for every `p` in (0, 1). The law on which a constant
    threshold is biased the most (Koloskova, Hendrikx & Stich 2023).
    """
    _validate.positive("sigma", sigma)
    _validate.open_unit("p", p)
    s = math.sqrt(p / (1 - p))

    def transform(word: Array) -> Array:
        # By whole words: a probability is met to 2^-32, which float32 near 1 would not.
        below = word < jnp.uint32(min(round(p * 2**32), 2**32 - 1))
        return jnp.where(below, sigma / s, -sigma * s).astype(jnp.float32)

    return Law(describe_call("two_point", sigma, p), 1, transform, 0.0, sigma**2)


def chi_square(df: int = 1) -> Law:
    """Make chi-square noise with `df` degrees of freedom, at most 16: mean `df`, variance `2 df`.

    A sum of exponentials, with the square of a Gaussian where `df` is odd. `standardised()` is
    `(chi2 - df)/sqrt(2 df)`, which has a long right tail and all moments.
    """
    df = _validate.index("df", df, minimum=1)
    _validate.within("df", df, 1, 16)
    normal, pairs = gaussian(), df // 2

    def transform(*words: Array) -> Array:
        terms = [-2.0 * jnp.log(unit(word)) for word in words[:pairs]]
        if df % 2:
            terms.append(jnp.square(normal.transform(*words[pairs:])))
        return sum(terms[1:], start=terms[0])

    return Law(
        describe_call("chi_square", df), pairs + 2 * (df % 2), transform, float(df), 2.0 * df
    )
