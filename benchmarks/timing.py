"""Times compiled steps in turn, so that whatever else the machine does falls on all alike."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Ratio", "Runner", "interleave", "median_ratio", "pool"]

_SAMPLE_SECONDS = 0.02
_MOST_CALLS = 50


@dataclass
class Runner:
    """A compiled training step with memory of its own, run as training runs it.

    Parameters and state are donated and replaced by the step's results; the gradients stay.
    """

    step: Callable[[Any, Any, Any], tuple[Any, Any]]
    params: Any
    state: Any
    grads: Any

    def move(self) -> None:
        """Moves parameters and state elsewhere in memory."""
        self.params, self.state = jax.block_until_ready(
            jax.tree.map(jnp.copy, (self.params, self.state))
        )

    def run(self, calls: int) -> float:
        """Seconds for one step, from `calls` steps in a row."""
        start = time.perf_counter()
        for _ in range(calls):
            self.params, self.state = self.step(self.params, self.state, self.grads)
        jax.block_until_ready((self.params, self.state))
        return (time.perf_counter() - start) / calls


@dataclass(frozen=True)
class Ratio:
    """A ratio of run times.

    Attributes:
      median: The median over rounds; with several repeats, the median of their medians.
      low: The 10th percentile over all rounds.
      high: The 90th percentile over all rounds.
      repeats: The median of each repeat.
    """

    median: float
    low: float
    high: float
    repeats: tuple[float, ...]

    @property
    def error(self) -> float:
        """For a control, whose true ratio is 1: how far its repeats' medians stray from it."""
        return max(abs(one - 1) for one in self.repeats)


def interleave(
    runners: Mapping[str, Runner], rounds: int, *, seed: int = 0, warm_up: int = 1
) -> dict[str, np.ndarray]:
    """Times all runners `rounds` times, one after the other in a new order each round.

    Where buffers happen to lie in memory changes the time of the same program by several percent,
    so they are moved between rounds.

    Args:
      runners: What to time.
      rounds: Number of samples of each.
      seed: Seed of the orders.
      warm_up: Rounds that are not recorded.

    Returns:
      Seconds for one step, an array of `rounds` samples for each runner. Entry `i` of all arrays
      was measured in round `i`: divide arrays, not medians.
    """
    names = list(runners)
    order = random.Random(seed)
    # Fast steps are run several times a sample: the clock and the dispatch would be measured else.
    calls = {}
    for name in names:
        runners[name].run(1)
        calls[name] = _calls(runners[name].run(1))
    samples: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warm_up, rounds):
        order.shuffle(names)
        for name in names:
            runners[name].move()
        for name in names:
            runners[name].run(1)
            seconds = runners[name].run(calls[name])
            if number >= 0:
                samples[name].append(seconds)
    return {name: np.asarray(samples[name]) for name in runners}


def median_ratio(times: np.ndarray | float, reference: np.ndarray | float) -> Ratio:
    """The ratio of two programs' times, round by round in one interleaved measurement."""
    ratios = np.asarray(times) / reference
    low, median, high = (float(one) for one in np.percentile(ratios, [10, 50, 90]))
    return Ratio(median, low, high, (median,))


def pool(ratios: Sequence[Ratio]) -> Ratio:
    """Repeats of one ratio, each measured in fresh memory, as one."""
    medians = tuple(one for ratio in ratios for one in ratio.repeats)
    return Ratio(
        median=float(np.median(medians)),
        low=float(np.median([ratio.low for ratio in ratios])),
        high=float(np.median([ratio.high for ratio in ratios])),
        repeats=medians,
    )


def _calls(seconds: float) -> int:
    return max(1, min(_MOST_CALLS, math.ceil(_SAMPLE_SECONDS / max(seconds, 1e-9))))
