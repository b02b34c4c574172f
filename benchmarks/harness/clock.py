"""Times compiled steps in turn, so that whatever else the machine does falls on all alike."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

READ, COPY = "one read", "copy"
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
        """Returns the seconds for one step, from `calls` steps in a row."""
        start = time.perf_counter()
        for _ in range(calls):
            self.params, self.state = self.step(self.params, self.state, self.grads)
        jax.block_until_ready((self.params, self.state))
        return (time.perf_counter() - start) / calls


def interleave(
    runners: Mapping[str, Runner], rounds: int, *, seed: int = 0
) -> dict[str, np.ndarray]:
    """Times all runners `rounds` times, one after the other in a new order each round.

    Where buffers happen to lie in memory changes the time of the same program by several percent,
    so they are moved between rounds. Entry `i` of all arrays of seconds was measured in round `i`:
    divide arrays, not medians.
    """
    names = list(runners)
    order = random.Random(seed)
    # Fast steps are run several times a sample: the clock and the dispatch would be measured else.
    calls = {}
    for name in names:
        runners[name].run(1)
        calls[name] = math.ceil(_SAMPLE_SECONDS / max(runners[name].run(1), 1e-9))
    samples: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(1 + rounds):  # the first to warm up
        order.shuffle(names)
        for name in names:
            runners[name].move()
        for name in names:
            runners[name].run(1)
            samples[name].append(runners[name].run(min(_MOST_CALLS, calls[name])))
    return {name: np.asarray(seconds[1:]) for name, seconds in samples.items()}


def divide(times: np.ndarray, reference: np.ndarray) -> tuple[float, float, float]:
    """Divides two programs' times round by round: 10th percentile, median, 90th percentile."""
    low, median, high = np.percentile(times / reference, [10, 50, 90])
    return float(low), float(median), float(high)


def make_probes(grads: Any) -> dict[str, Runner]:
    """Makes one read of the gradient, and a copy of it from the device to itself."""

    def read(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        parts = [jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(grads)]
        return params, jnp.sum(jax.lax.optimization_barrier(jnp.stack(parts)))

    def copy(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        return params, jax.tree.map(jnp.copy, grads)

    def compile(function: Any, state: Any) -> Runner:
        jitted = jax.jit(function, donate_argnums=1, keep_unused=True)
        return Runner(jitted.lower((), state, grads).compile(), (), state, grads)

    return {
        READ: compile(read, jnp.zeros(())),
        COPY: compile(copy, jax.tree.map(jnp.copy, grads)),
    }
