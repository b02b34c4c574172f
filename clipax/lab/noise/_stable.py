"""Alpha-stable laws by the method of Chambers, Mallows and Stuck, with their whole tails.

The method takes an angle V uniform on (-pi/2, pi/2) and an exponential W. The tail comes from
angles close to +-pi/2. Written with V in float32 it is rounded away, and now and then a logarithm
of zero gives NaN; here the distance `delta` from +-pi/2 is the random number.

References:
  J. M. Chambers, C. L. Mallows, B. W. Stuck, "A method for simulating stable random variables",
  Journal of the American Statistical Association 71, 1976.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from clipax import _validate
from clipax._typing import Array
from clipax.lab.noise._law import Law, describe_call
from clipax.lab.noise._words import exponential, flip, half_unit, sine, tail_exponential

__all__ = ["alpha_stable"]


def alpha_stable(alpha: float, beta: float = 0.0) -> Law:
    """Make alpha-stable noise: characteristic function `exp(-|s|^alpha (1 - i beta sign(s) Phi))`.

    `Phi = tan(pi alpha/2)`, and `-(2/pi) log|s|` for `alpha = 1` (the parametrisation that
    `scipy.stats.levy_stable` calls S1, scale 1, location 0). `alpha = 2` is a normal law of
    variance 2, `alpha = 1` with `beta = 0` the Cauchy law.

    Args:
      alpha: Tail index, in [0.5, 2].
      beta: Skewness, in [-1, 1]; 0 is symmetric.

    Returns:
      The law. Its tail index is `alpha` (infinite for 2); the mean is 0 for `alpha > 1`, and there
      is none otherwise; the variance is infinite but for `alpha = 2`. `standardised()` does nothing
      but for `alpha = 2`.
    """
    _validate.within("alpha", alpha, 0.5, 2.0)
    _validate.within("beta", beta, -1.0, 1.0)
    if beta == 0.0:
        transform = _symmetric(alpha)
    else:
        transform = _skewed_cauchy(beta) if alpha == 1.0 else _skewed(alpha, beta)
    return Law(
        describe_call("alpha_stable", alpha, beta)
        if beta
        else describe_call("alpha_stable", alpha),
        2,
        transform,
        0.0 if alpha > 1 else math.nan,
        2.0 if alpha == 2 else math.inf if alpha > 1 else math.nan,
        math.inf if alpha == 2 else alpha,
    )


def _symmetric(alpha: float) -> Callable[..., Array]:
    offset = (2.0 - alpha) * (0.5 * math.pi)

    def transform(direction: Array, height: Array) -> Array:
        # sin(alpha |V|) and cos((1 - alpha) V), as sines of sums of positive terms.
        delta = (0.5 * math.pi) * half_unit(direction)
        turn = alpha * delta
        numerator = sine(jnp.maximum(jnp.minimum(offset + turn, (math.pi - offset) - turn), 0.0))
        waiting = tail_exponential(height) if alpha >= 1 else exponential(height)
        ratio = waiting / sine(_fold(offset + (alpha - 1.0) * delta, alpha))
        power = jnp.log(sine(delta)) / -alpha
        if alpha != 1.0:
            power = power + (1.0 - 1.0 / alpha) * jnp.log(ratio)
        return flip(direction, numerator * jnp.exp(power))

    return transform


def _fold(angle: Array, alpha: float) -> Array:
    """Fold an angle to [0, pi/2] with the same sine; with `alpha` from 1 on it lies there."""
    return angle if alpha >= 1 else math.pi - angle


def _skewed(alpha: float, beta: float) -> Callable[..., Array]:
    tangent = beta * math.tan(0.5 * math.pi * alpha)
    turn = math.atan(tangent)
    size = (1 + tangent**2) ** (0.5 / alpha)

    def edge(sign: int) -> tuple[float, float, float, float]:
        """Sign and angle of the numerator, angle and slope of the denominator, at V = sign pi/2.

        The numerator is `sin(alpha V + turn)`, the denominator `cos((1 - alpha) V - turn)`, the
        sine of its distance from the nearer of +-pi/2. Reduced in double precision, what is zero
        at the very edge stays zero.
        """
        start = math.remainder(alpha * (sign * 0.5 * math.pi) + turn, 2 * math.pi)
        flips, step = 1.0, -sign
        if abs(start) > 0.5 * math.pi:
            start, step = math.copysign(math.pi, start) - start, -step
        if step < 0:
            flips, start = -1.0, -start
        angle = sign * (1 - alpha) * 0.5 * math.pi - turn
        low, high, slope = 0.5 * math.pi + angle, 0.5 * math.pi - angle, sign * (alpha - 1)
        if low > high:
            low, slope = high, -slope
        return flips * size, *(0.0 if abs(a) < 1e-12 else a for a in (start, low)), slope

    edges = tuple(zip(edge(1), edge(-1), strict=True))

    def transform(direction: Array, height: Array) -> Array:
        delta = (0.5 * math.pi) * half_unit(direction)
        even = (direction & np.uint32(1)) == 0
        factor, start, low, slope = (
            jnp.where(even, jnp.float32(right), jnp.float32(left)) for right, left in edges
        )
        # Folded, so that one polynomial on [-pi/2, pi/2] will do.
        step = alpha * delta
        numerator = sine(jnp.minimum(start + step, (math.pi - start) - step))
        angle = low + slope * delta
        # Rounding may take a vanishing angle below zero.
        denominator = sine(jnp.maximum(jnp.minimum(angle, math.pi - angle), 1e-30))
        waiting = tail_exponential(height) if alpha >= 1 else exponential(height)
        power = (1.0 - 1.0 / alpha) * jnp.log(waiting / denominator)
        return factor * numerator * jnp.exp(power - jnp.log(sine(delta)) / alpha)

    return transform


def _skewed_cauchy(beta: float) -> Callable[..., Array]:
    # pi/2 + beta V at both edges, where it may vanish.
    edges = (0.5 * math.pi * (1 + beta), 0.5 * math.pi * (1 - beta))

    def transform(direction: Array, height: Array) -> Array:
        delta = (0.5 * math.pi) * half_unit(direction)
        even = (direction & np.uint32(1)) == 0
        sign = jnp.where(even, jnp.float32(1.0), jnp.float32(-1.0))
        base = jnp.where(even, jnp.float32(edges[0]), jnp.float32(edges[1])) - sign * (beta * delta)
        cosine = sine(delta)
        tangent = sign * sine(jnp.maximum(0.5 * math.pi - delta, 0.0)) / cosine
        logarithm = jnp.log(0.5 * math.pi * exponential(height) * cosine / base)
        return (2.0 / math.pi) * (base * tangent - beta * logarithm)

    return transform
