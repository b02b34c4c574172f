"""Laws of gradient noise: pure samplers, and the text that names them.

Every variate is built from whole 32-bit random words. A uniform number in float32 is a multiple
of 2^-23, which would cap a Pareto law of index 1.5 at 4e4: "heavy-tailed" noise that is bounded.
A word read as `(word + 1/2) 2^-32` keeps its leading zeros, so the tail reaches as far as the words
do, and it is never 0, so that every variate is finite.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from clipax.lab.errors import InputError

__all__ = ["LAWS", "Noise", "parse_noise"]

Sampler = Callable[[jax.Array, tuple[int, ...], float], jax.Array]


def _words(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.bits(key, shape, jnp.uint32)


def _uniform(word: jax.Array) -> jax.Array:
    """A word as a number in (0, 1], accurate to float32's relative precision near 0."""
    return (word.astype(jnp.float32) + 0.5) * 2.0**-32


def _sign_and_uniform(word: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The lowest bit as a sign, the other 31 as a number in (0, 1], independent of it."""
    sign = 1.0 - 2.0 * (word & 1).astype(jnp.float32)
    return sign, ((word >> 1).astype(jnp.float32) + 0.5) * 2.0**-31


def _exponential(word: jax.Array) -> jax.Array:
    """A standard exponential, with both ends of (0, 1) resolved: never 0, never infinite."""
    lower = -jnp.log(_uniform(word))
    upper = -jnp.log1p(-_uniform(~word))
    return jnp.where((word >> 31) == 0, lower, upper)


def _gaussian(key: jax.Array, shape: tuple[int, ...], deviation: float) -> jax.Array:
    return deviation * jax.random.normal(key, shape, jnp.float32)


def _pareto_from(word: jax.Array, index: float) -> jax.Array:
    sign, u = _sign_and_uniform(word)
    return sign * jnp.expm1(-jnp.log(u) / index)


def _pareto(key: jax.Array, shape: tuple[int, ...], index: float) -> jax.Array:
    return _pareto_from(_words(key, shape), index)


def _skewed_pareto_from(word: jax.Array, index: float) -> jax.Array:
    return jnp.exp(-jnp.log(_uniform(word)) / index) - index / (index - 1.0)


def _skewed_pareto(key: jax.Array, shape: tuple[int, ...], index: float) -> jax.Array:
    return _skewed_pareto_from(_words(key, shape), index)


def _student_t_from(radius: jax.Array, angle: jax.Array, freedom: float) -> jax.Array:
    # Bailey's polar form, exact for every number of degrees of freedom. The large factor stands
    # apart from the root, so that its square is never formed.
    log_u = jnp.log(_uniform(radius))
    root = jnp.sqrt(-freedom * jnp.expm1(2.0 * log_u / freedom))
    return jnp.exp(-log_u / freedom) * root * jnp.cos(2.0 * jnp.pi * _uniform(angle))


def _student_t(key: jax.Array, shape: tuple[int, ...], freedom: float) -> jax.Array:
    radius, angle = _words(key, (2, *shape))
    return _student_t_from(radius, angle, freedom)


def _alpha_stable_from(direction: jax.Array, height: jax.Array, index: float) -> jax.Array:
    # Chambers-Mallows-Stuck for a symmetric law, in terms of `delta`, the distance of the angle V
    # from the nearest of +-pi/2. The tail comes from small `delta`, which pi/2 - |V| would have
    # rounded away. For the same reason sin(index |V|) and cos((1 - index) V) are written as sines
    # of sums of positive terms.
    sign, u = _sign_and_uniform(direction)
    delta = (0.5 * jnp.pi) * u
    offset = (2.0 - index) * (0.5 * math.pi)
    numerator = jnp.sin(offset + index * delta)
    ratio = _exponential(height) / jnp.sin(offset + (index - 1.0) * delta)
    return sign * numerator * jnp.sin(delta) ** (-1.0 / index) * ratio ** (1.0 - 1.0 / index)


def _alpha_stable(key: jax.Array, shape: tuple[int, ...], index: float) -> jax.Array:
    direction, height = _words(key, (2, *shape))
    return _alpha_stable_from(direction, height, index)


@dataclasses.dataclass(frozen=True)
class _Law:
    """A family of laws: its parameter's name and range, and what it means, for messages."""

    parameter: str
    low: float
    high: float
    open_low: bool
    meaning: str
    sample: Sampler

    def rule(self) -> str:
        left = "greater than" if self.open_low else "at least"
        return f"{left} {self.low:g} and at most {self.high:g}"

    def allows(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and value <= self.high


# The lower ends keep the largest variate that 32 bits can make within float32.
LAWS: dict[str, _Law] = {
    "gaussian": _Law("S", 0.0, 1e6, True, "normal, standard deviation S", _gaussian),
    "pareto": _Law("ALPHA", 0.5, 100.0, False, "symmetric Pareto, tail index ALPHA", _pareto),
    "skewed-pareto": _Law(
        "ALPHA", 1.0, 100.0, True, "one-sided Pareto moved to mean 0", _skewed_pareto
    ),
    "student-t": _Law("DF", 0.5, 1e4, False, "Student's t, DF degrees of freedom", _student_t),
    "alpha-stable": _Law(
        "ALPHA", 1.0, 2.0, False, "symmetric stable, tail index ALPHA", _alpha_stable
    ),
}


@dataclasses.dataclass(frozen=True)
class Noise:
    """A law of noise: a family of `LAWS` and its parameter, or no noise at all.

    Attributes:
      family: a key of `LAWS`, or "none".
      parameter: the number behind the colon in the text (ignored for "none").
    """

    family: str
    parameter: float = 0.0

    def __str__(self) -> str:
        return self.family if self.is_none else f"{self.family}:{self.parameter:g}"

    @property
    def is_none(self) -> bool:
        """Whether there is no noise."""
        return self.family == "none"

    def sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Draws independent float32 variates, a pure function of `key` and `shape`.

        Args:
          key: a JAX random key.
          shape: the shape of the result.

        Returns:
          Finite variates; their tail is the law's own for as far as 32 random bits reach.
        """
        if self.is_none:
            return jnp.zeros(shape, jnp.float32)
        return LAWS[self.family].sample(key, shape, self.parameter)


def _forms() -> str:
    forms = ", ".join(f"{name}:{law.parameter}" for name, law in LAWS.items())
    return f"none, {forms}"


def parse_noise(text: str) -> Noise:
    """Reads a noise law from text such as `pareto:1.5`.

    Args:
      text: `none`, `gaussian:S`, `pareto:ALPHA`, `skewed-pareto:ALPHA`, `student-t:DF` or
        `alpha-stable:ALPHA`.

    Returns:
      The law.

    Raises:
      InputError: if the family is unknown (the nearest name is offered), the number is missing or
        not a number, or out of the family's range.
    """
    family, colon, number = text.strip().partition(":")
    if family == "none" and not colon:
        return Noise("none")
    if family not in LAWS:
        near = difflib.get_close_matches(family, ["none", *LAWS], n=1)
        hint = f"Did you mean {near[0]}?" if near and near[0] != family else ""
        raise InputError(f"unknown noise {text!r}. {hint} Known: {_forms()}.".replace(".  ", ". "))
    law = LAWS[family]
    try:
        value = float(number)
    except ValueError:
        raise InputError(
            f"noise {text!r} must end in a number: {family}:{law.parameter} is {law.meaning}."
        ) from None
    if not law.allows(value):
        raise InputError(f"noise {text!r}: {law.parameter} must be {law.rule()}.")
    return Noise(family, value)
