"""Text that names a law of noise, for the command line."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable

import jax
import jax.numpy as jnp

from clipax.lab._errors import InputError
from clipax.lab.noise._law import Law
from clipax.lab.noise._skewed import skewed_pareto
from clipax.lab.noise._stable import alpha_stable
from clipax.lab.noise._symmetric import gaussian, pareto, student_t

__all__ = ["LAWS", "Noise", "parse_noise"]


@dataclasses.dataclass(frozen=True)
class _Family:
    """A family of laws: its parameter's name, range and meaning, for messages."""

    parameter: str
    low: float
    high: float
    open_low: bool
    meaning: str
    law: Callable[[float], Law]

    def rule(self) -> str:
        left = "greater than" if self.open_low else "at least"
        return f"{left} {self.low:g} and at most {self.high:g}"

    def allows(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and value <= self.high


# The lower ends keep the largest variate that 32 bits can make within float32.
LAWS: dict[str, _Family] = {
    "gaussian": _Family("S", 0.0, 1e6, True, "normal, standard deviation S", gaussian),
    "pareto": _Family("ALPHA", 0.5, 100.0, False, "symmetric Pareto, tail index ALPHA", pareto),
    "skewed-pareto": _Family(
        "ALPHA", 1.0, 100.0, True, "one-sided Pareto moved to mean 0", skewed_pareto
    ),
    "student-t": _Family("DF", 0.5, 1e4, False, "Student's t, DF degrees of freedom", student_t),
    "alpha-stable": _Family(
        "ALPHA", 1.0, 2.0, False, "symmetric stable, tail index ALPHA", alpha_stable
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
        """True for no noise."""
        return self.family == "none"

    def sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Draw independent float32 variates, a pure function of `key` and `shape`.

        Args:
          key: a JAX random key.
          shape: the shape of the result.

        Returns:
          Finite variates; they follow the law's tail as far as 32 random bits reach.
        """
        if self.is_none:
            return jnp.zeros(shape, jnp.float32)
        return LAWS[self.family].law(self.parameter).sample(key, shape)


def _forms() -> str:
    forms = ", ".join(f"{name}:{law.parameter}" for name, law in LAWS.items())
    return f"none, {forms}"


def parse_noise(text: str) -> Noise:
    """Read a noise law from text such as `pareto:1.5`.

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
