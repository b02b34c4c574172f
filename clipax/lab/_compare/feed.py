"""Batches of several runs, stacked, some of them corrupt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from clipax.lab._compare.tasks.task import Task
from clipax.lab._errors import InputError

__all__ = ["Feed", "is_corrupt"]

# Which batches are corrupt, and how, depends on the seed and the step alone.
_STREAM = 2


def is_corrupt(seed: int, step: int, share: float) -> bool:
    """Whether the batch of a step is corrupt, the same for all methods."""
    return np.random.default_rng([seed, _STREAM, step]).random() < share


class Feed:
    """Gives the batches of a block of runs, in order.

    Args:
      task: whose batches.
      seeds: the seed of each run; runs of one seed share its batches.
      corrupt: the share of corrupt batches.
    """

    def __init__(self, task: Task, seeds: Sequence[int], corrupt: float):
        self._task = task
        self._seeds = tuple(seeds)
        self._corrupt = corrupt
        self._sources = {seed: iter(task.batches(seed)) for seed in seeds}
        self._step = 0
        self._shapes: Any = None

    def take(self, steps: int, padded: int) -> Any:
        """Take the batches of the next steps.

        Args:
          steps: how many.
          padded: the length of the result; the last batch is repeated up to it.

        Returns:
          A tree of arrays, whose first axes are the steps and the runs.

        Raises:
          InputError: the task gives too few batches, or batches of different shapes.
        """
        rows = []
        for _ in range(steps):
            batches = {seed: self._next(seed, source) for seed, source in self._sources.items()}
            rows.append([batches[seed] for seed in self._seeds])
            self._step += 1
        rows += rows[-1:] * (padded - steps)
        return jax.tree.map(
            lambda *leaves: np.stack(leaves).reshape(padded, len(self._seeds), *leaves[0].shape),
            *(batch for row in rows for batch in row),
        )

    def _next(self, seed: int, source: Iterator[Any]) -> Any:
        try:
            batch = next(source)
        except StopIteration:
            raise InputError(
                f"task {self._task.name}: batches({seed}) ended after {self._step} batches; a run "
                f"takes more steps: let it go on for ever, or lower the steps."
            ) from None
        if is_corrupt(seed, self._step, self._corrupt):
            assert self._task.corrupt is not None
            random = np.random.default_rng([seed, _STREAM, self._step, 1])
            batch = self._task.corrupt(batch, random)
        batch = jax.tree.map(self._to_array, batch)
        leaves, tree = jax.tree.flatten(batch)
        shapes = tree, [(leaf.shape, leaf.dtype) for leaf in leaves]
        if self._shapes is None:
            self._shapes = shapes
        if shapes != self._shapes:
            raise InputError(
                f"task {self._task.name}: batch {self._step} of seed {seed} is {_show(shapes)}, "
                f"the first was {_show(self._shapes)}; all must be alike."
            )
        return batch

    def _to_array(self, leaf: Any) -> np.ndarray:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise InputError(
                f"task {self._task.name}: a batch has a key of jax.random.key; put "
                f"jax.random.PRNGKey(seed) there, which is an array."
            )
        return np.asarray(leaf)


def _show(shapes: tuple[Any, list[tuple[tuple[int, ...], np.dtype]]]) -> str:
    return " and ".join(f"{dtype}{list(shape)}" for shape, dtype in shapes[1]) or "empty"
