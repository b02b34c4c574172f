"""The noise on gradients: independent in every entry, or heavy in the norm."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import clipax
from clipax.lab.noise import Noise, parse_noise

__all__ = ["GradientNoise", "parse_gradient_noise"]

_PREFIX = "norm:"


@dataclasses.dataclass(frozen=True)
class GradientNoise:
    """A law of noise on gradients.

    The noise on a gradient g of d entries is `s ||g|| / sqrt(d) * xi`. The entries of xi are
    independent draws of the law, or, `in_norm`, one draw for the step times a standard normal one
    for each entry: then all entries are large at once, as in a bad batch.

    Attributes:
      law: the law.
      in_norm: whether one draw is for the whole step.
      scale: s.
    """

    law: Noise
    in_norm: bool
    scale: float = 1.0

    def __str__(self) -> str:
        return f"{_PREFIX if self.in_norm else ''}{self.law}"

    def add(self, gradient: Any, key: jax.Array) -> Any:
        """Add noise to a gradient, a pure function of it and of the key."""
        if self.law.is_none:
            return gradient
        leaves, tree = jax.tree.flatten(gradient)
        sizes = [leaf.size for leaf in leaves]
        size = sum(sizes)
        scale = self.scale * clipax.global_norm(gradient) / math.sqrt(size)
        if self.in_norm:
            of_step, of_entries = jax.random.split(key)
            scale *= self.law.sample(of_step, ())
            noise = jax.random.normal(of_entries, (size,))
        else:
            noise = self.law.sample(key, (size,))
        parts = jnp.split(noise, np.cumsum(sizes)[:-1])
        noisy = [
            leaf + (scale * part.reshape(leaf.shape)).astype(leaf.dtype)
            for leaf, part in zip(leaves, parts, strict=True)
        ]
        return jax.tree.unflatten(tree, noisy)


def parse_gradient_noise(text: str, scale: float = 1.0) -> GradientNoise:
    """Read a law of noise on gradients from text such as `pareto:1.5` or `norm:pareto:1.5`.

    Args:
      text: what `parse_noise` reads, after `norm:` for noise that is heavy in the norm.
      scale: the scale s.

    Returns:
      The noise.

    Raises:
      InputError: if `parse_noise` cannot read it.
    """
    word = text.strip()
    in_norm = word.startswith(_PREFIX) and word != _PREFIX
    law = parse_noise(word.removeprefix(_PREFIX) if in_norm else word)
    return GradientNoise(law, in_norm and not law.is_none, scale)
