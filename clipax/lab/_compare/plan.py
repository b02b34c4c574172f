"""The plan that all runs of a comparison share, and the methods that are compared."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import optax

from clipax.lab.noise import Noise

__all__ = ["WIDTH", "Build", "Method", "Plan"]

# Runs in one block: wide enough for vectorised code, narrow enough to stay in cache.
WIDTH = 8

# From a learning rate, which may be traced, to an optimizer.
Build = Callable[[Any], optax.GradientTransformation]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Steps, batches and noise of a comparison, the same for all its runs.

    Attributes:
      steps: the number of updates.
      batch_size: the number of examples, drawn with replacement, in a batch.
      noise: the law of the gradient noise.
      noise_scale: its scale `s`: the noise added is `s * ||g|| / sqrt(d) * xi`.
      evaluations: the largest number of points of a curve, behind the one before the first step.
    """

    steps: int
    batch_size: int
    noise: Noise
    noise_scale: float
    evaluations: int = 25

    @property
    def stride(self) -> int:
        """Steps between two points of a curve, the last two perhaps fewer."""
        return math.ceil(self.steps / self.evaluations)

    @property
    def points(self) -> tuple[int, ...]:
        """Steps at which a curve has points: 0 first, `steps` last."""
        return (*range(0, self.steps, self.stride), self.steps)

    def stretches(self, runs: int) -> int:
        """Count the calls of `advance` for a list of so many runs."""
        return math.ceil(runs / WIDTH) * (len(self.points) - 1)


@dataclasses.dataclass(frozen=True)
class Method:
    """An optimizer to compare.

    Attributes:
      name: what tables call it.
      build: makes it from a learning rate.
      learning_rates: the rates to try, ascending.
    """

    name: str
    build: Build
    learning_rates: tuple[float, ...]
