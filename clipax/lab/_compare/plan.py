"""The plan that all runs of a comparison share, and the settings of a run."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

from clipax.lab._compare.noise import GradientNoise

__all__ = ["SELECTION_SEEDS", "WIDTH", "Plan", "Run", "Setting"]

# Seeds that choose the settings; the seeds of the results follow them.
SELECTION_SEEDS = (0, 1, 2, 3)

# Runs in one block at most: wide enough for vectorised code, narrow enough to stay in cache.
WIDTH = 8


class Setting(NamedTuple):
    """A learning rate and a threshold, None where none is searched."""

    rate: float
    threshold: float | None = None


class Run(NamedTuple):
    """One run: its seed and its setting."""

    seed: int
    setting: Setting


@dataclasses.dataclass(frozen=True)
class Plan:
    """Length and noise of a comparison, the same for all its runs.

    Attributes:
      steps: the number of updates.
      noise: the law of the noise on gradients.
      corrupt: the share of corrupt batches.
      evaluations: the largest number of points of a curve, behind the one before the first step.
    """

    steps: int
    noise: GradientNoise
    corrupt: float = 0.0
    evaluations: int = 25

    @property
    def stride(self) -> int:
        """Steps between two points of a curve, the last two perhaps fewer."""
        return math.ceil(self.steps / self.evaluations)

    @property
    def points(self) -> tuple[int, ...]:
        """Steps at which a curve has points: 0 first, `steps` last."""
        return (*range(0, self.steps, self.stride), self.steps)

    def stretches(self, runs: int, width: int) -> int:
        """Count the calls of `advance` for a list of so many runs in blocks of a width."""
        return math.ceil(runs / width) * (len(self.points) - 1)
