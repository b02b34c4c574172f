"""What a comparison trains: a model, its loss and its data, as a few functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

__all__ = ["Task"]


@dataclasses.dataclass(frozen=True)
class Task:
    """A model, its loss and its data, for `compare`.

    A model is a tree of float arrays (pure JAX, the parameters of Flax linen) or a Flax NNX module.
    `init`, `loss` and `evaluate` are traced by JAX; `batches` and `corrupt` run in Python.

    Attributes:
      init: `init(key)` makes the model from a JAX random key.
      loss: `loss(model, batch)` is the scalar that is differentiated.
      batches: `batches(seed)` gives the batches of one run, at least as many as there are steps:
        trees of arrays, all of the same shapes. Equal seeds must give equal batches.
      validation: The batch by which learning rates and thresholds are chosen.
      test: The batch that the results are reported on. Default: `validation`.
      evaluate: `evaluate(model, batch)` is the loss on `validation` and `test`, or a dictionary of
        scalars with the key `"loss"`. Default: `loss`.
      corrupt: `corrupt(batch, random)` makes a bad batch of a good one, with a NumPy generator.
        Default: there are none.
      name: What titles call it.

    Example:
      >>> import jax, jax.numpy as jnp, numpy as np
      >>> from clipax.lab import Task
      >>> x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
      >>> y = x @ np.array([1.0, -2.0, 0.5], np.float32)
      >>> def batches(seed):
      ...     random = np.random.default_rng(seed)
      ...     while True:
      ...         rows = random.integers(100, size=16)
      ...         yield x[rows], y[rows]
      >>> task = Task(
      ...     init=lambda key: jax.random.normal(key, (3,)),
      ...     loss=lambda w, batch: jnp.mean((batch[0] @ w - batch[1]) ** 2),
      ...     batches=batches,
      ...     validation=(x[100:], y[100:]),
      ...     name="regression",
      ... )
    """

    init: Callable[[Any], Any]
    loss: Callable[[Any, Any], Any]
    batches: Callable[[int], Iterable[Any]]
    validation: Any
    test: Any = None
    evaluate: Callable[[Any, Any], Any] | None = None
    corrupt: Callable[[Any, np.random.Generator], Any] | None = None
    name: str = "task"
    remarks: tuple[str, ...] = dataclasses.field(default=(), repr=False)

    @property
    def held_out(self) -> Mapping[str, Any]:
        """The batches for evaluation, by the name of their part."""
        test = self.validation if self.test is None else self.test
        return {"validation": self.validation, "test": test}
