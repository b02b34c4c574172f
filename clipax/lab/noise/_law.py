"""Laws of noise: pure functions of random words, with their moments."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from clipax import _validate
from clipax._typing import Array

__all__ = ["Law", "describe_call"]


def describe_call(name: str, *arguments: float) -> str:
    """Write a constructor and its arguments with all digits: laws of one name are equal."""
    return f"{name}({', '.join(_digits(argument) for argument in arguments)})"


def _digits(number: float) -> str:
    return repr(float(number)).removesuffix(".0")


@dataclasses.dataclass(frozen=True)
class Law:
    """A law of noise, sampled from 32-bit random words.

    Attributes:
      name: The constructor and its arguments; laws of one name are equal.
      words: Number of random words in one variate.
      transform: From that many uint32 arrays of one shape to variates, entry by entry.
      mean: The mean; NaN where there is none.
      variance: The variance; infinite, or NaN without a mean, where there is none.
      tail_index: The largest p below which `E |x|^p` is finite; infinite for lighter tails.

    Example:
      >>> import jax
      >>> from clipax.lab import noise
      >>> law = noise.pareto(1.5)
      >>> law.sample(jax.random.key(0), (2, 3)).shape
      (2, 3)
      >>> law.mean, law.variance, law.tail_index
      (0.0, inf, 1.5)
    """

    name: str
    words: int
    transform: Callable[..., Array] = dataclasses.field(compare=False, repr=False)
    mean: float = dataclasses.field(compare=False)
    variance: float = dataclasses.field(compare=False)
    tail_index: float = dataclasses.field(compare=False, default=math.inf)

    def __str__(self) -> str:
        return self.name

    def from_words(self, *words: Array) -> Array:
        """Make variates out of random words.

        Args:
          *words: `self.words` uint32 arrays of one shape, each entry uniform on all 32-bit words.

        Returns:
          Finite float32 variates of that shape, for all words. Elementwise, so that XLA fuses it
          with the producer of the words and the consumer of the variates.
        """
        if len(words) != self.words:
            raise ValueError(f"`words` must be {self.words} arrays for {self}, got {len(words)}.")
        return self.transform(*words)

    def sample(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Draw independent float32 variates, a pure function of `key` and `shape`.

        Args:
          key: A JAX random key.
          shape: The shape of the result.

        Returns:
          Finite variates; they follow the law's tail as far as 32 random bits reach.
        """
        return self.from_words(*jax.random.bits(key, (self.words, *shape), jnp.uint32))

    def scaled(self, scale: float, shift: float = 0.0) -> Law:
        """Make the law of `scale x + shift`.

        Args:
          scale: Positive.
          shift: Any finite number.

        Returns:
          The law.
        """
        _validate.positive("scale", scale)
        _validate.number("shift", shift, "finite", math.isfinite)
        offset = f" {'+' if shift > 0 else '-'} {_digits(abs(shift))}" if shift else ""
        factor = "" if scale == 1 else f"{_digits(scale)} * "
        # Brackets keep the names of different laws different: laws of one name are equal.
        name = f"({self.name})" if " * " in self.name or not self.name.endswith(")") else self.name
        return dataclasses.replace(
            self,
            name=f"{factor}{name}{offset}",
            transform=lambda *words: scale * self.transform(*words) + shift,
            mean=scale * self.mean + shift,
            variance=scale**2 * self.variance,
        )

    def standardised(self) -> Law:
        """Make the law moved to mean zero and scaled to unit variance.

        Returns:
          The law of `(x - mean)/sqrt(variance)`; of `x - mean` where the variance is infinite;
          the law itself where there is no mean.
        """
        if not math.isfinite(self.mean):
            return self
        scale = 1 / math.sqrt(self.variance) if math.isfinite(self.variance) else 1.0
        if scale == 1.0 and self.mean == 0.0:
            return self
        return self.scaled(scale, -self.mean * scale)
