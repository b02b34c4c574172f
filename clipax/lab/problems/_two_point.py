"""Noise with two values, under which the bias of clipped SGD is known exactly."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from clipax import _validate
from clipax._typing import Array
from clipax.lab.problems._problem import Problem
from clipax.lab.problems._quadratic import quadratic

__all__ = ["TwoPointNoise", "two_point_bias"]


@dataclasses.dataclass(frozen=True)
class TwoPointNoise:
    """A law with two values, of mean 0.

        P(xi = sigma/s) = p,  P(xi = -sigma s) = 1 - p,  s = sqrt(p/(1 - p))

    Attributes:
      sigma: The standard deviation `sigma`, positive.
      probability: Of the upper value, `p`, in (0, 1).
    """

    sigma: float
    probability: float

    def __post_init__(self) -> None:
        _validate.positive("sigma", self.sigma)
        _validate.within("probability", self.probability, 0, 1, brackets="()")

    def __str__(self) -> str:
        return f"two-point(sigma={self.sigma:g}, p={self.probability:g})"

    @property
    def skew(self) -> float:
        """The number `s`."""
        return math.sqrt(self.probability / (1.0 - self.probability))

    @property
    def high(self) -> float:
        """The upper value."""
        return self.sigma / self.skew

    @property
    def low(self) -> float:
        """The lower value."""
        return -self.sigma * self.skew

    @property
    def words(self) -> int:
        """Number of random words in one variate."""
        return 1

    def from_words(self, *words: Array) -> Array:
        """Make float32 variates out of words of 32 random bits, `p` to within `2^-32`."""
        (word,) = words
        # So many of the 2^32 words give the upper value: at least one, and not all.
        share = min(max(round(self.probability * 2**32), 1), 2**32 - 1)
        return jnp.where(word < jnp.uint32(share), jnp.float32(self.high), jnp.float32(self.low))

    def sample(self, key: jax.Array, shape: tuple[int, ...]) -> Array:
        """Draw independent float32 variates, a pure function of `key` and `shape`."""
        return self.from_words(jax.random.bits(key, shape, jnp.uint32))

    def fixed_point(self, threshold: float) -> float:
        """Compute where clipped SGD on `x^2/2` stays in the mean, for any learning rate.

            x = sigma s - c s^2

        Args:
          threshold: The threshold `c`, positive.

        Raises:
          ValueError: The upper value is not clipped there, or the lower one is, so that the formula
            does not hold.
        """
        _validate.positive("threshold", threshold)
        point = self.sigma * self.skew - threshold * self.skew**2
        if point + self.high < threshold or abs(point + self.low) > threshold:
            raise ValueError(
                f"`threshold` must clip the upper value of the gradient and not the lower one, "
                f"got {threshold!r}."
            )
        return point


def two_point_bias(
    sigma: float = 1.0, threshold: float = 1.0, *, start: float = 0.0
) -> tuple[Problem, TwoPointNoise, float]:
    """Make the problem on which clipped SGD has the largest known bias, at any learning rate.

        f(x) = x^2/2,  s = sigma/(2 c) or 1/2,
        bias sigma^2/(4 c) or sigma/2 - c/4

    for `c > sigma/2` and `c <= sigma/2`, with the noise of `TwoPointNoise`.

    Args:
      sigma: The standard deviation `sigma` of the noise, positive; default 1.
      threshold: The threshold `c`, positive; default 1.
      start: The first iterate; default 0, the minimiser.

    Returns:
      The problem, its noise, and where clipped SGD ends in the mean.

    Example:
      >>> from clipax.lab.problems import two_point_bias
      >>> problem, noise, bias = two_point_bias(1.0, 2.0)
      >>> print(noise.high, noise.low, bias)
      4.0 -0.25 0.125

    References:
      Koloskova, Hendrikx and Stich, "Revisiting Gradient Clipping", arXiv 2305.01588 (the order of
      the bias; the constants are derived here).
    """
    _validate.positive("sigma", sigma)
    _validate.positive("threshold", threshold)
    skew = sigma / (2.0 * threshold) if threshold > sigma / 2.0 else 0.5
    noise = TwoPointNoise(float(sigma), skew**2 / (1.0 + skew**2))
    problem = quadratic([1.0], start=start, name="x^2/2")
    return problem, noise, noise.fixed_point(threshold)
