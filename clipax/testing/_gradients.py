"""Ordinary gradients, and where a fault and the second spike stand among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from clipax.testing._faults import Fault, tree_norm

__all__ = ["AFTERMATH", "Lane", "Recording", "default_params", "record"]

Tree = Any

AFTERMATH = 5
"""Steps from the second spike on: what delays its updates shows the spike within them."""
_SPIKE = 100.0
"""The second spike, in units of the typical norm."""
_DEGREES_OF_FREEDOM = 4.0


class Lane(NamedTuple):
    """One run: its gradients, and where to look in it.

    Attributes:
      gradients: A tree for each step.
      start: The first step of the fault.
      resume: The first ordinary step after it (in the lane without these steps: `start`).
      spike: The step of the second spike.
    """

    gradients: list[Tree]
    start: int
    resume: int
    spike: int


class Recording(NamedTuple):
    """Ordinary gradients.

    Attributes:
      gradients: A tree of NumPy arrays for each step.
      norm: Their median norm.
      steps: How many ordinary steps follow a fault.
    """

    gradients: list[Tree]
    norm: float
    steps: int

    def undisturbed(self, start: int, length: int) -> Lane:
        """The run without a fault, looked at where the fault would have been."""
        return self._lane(self.gradients, start, start + length)

    def without(self, start: int, length: int) -> Lane:
        """The run that leaves out the steps of the fault."""
        return self._lane(self.gradients[:start] + self.gradients[start + length :], start, start)

    def faulty(self, fault: Fault, start: int, length: int) -> Lane:
        """The run with the fault."""
        gradients = list(self.gradients)
        if fault.apply is not None:
            with np.errstate(over="ignore", under="ignore"):
                changed = fault.apply(gradients[start : start + length], self.norm)
            if len(changed) != length:
                raise ValueError(
                    f"`apply` of {fault.name!r} must give {length} gradients, gave {len(changed)}."
                )
            gradients[start : start + length] = changed
        if fault.prepare is not None:
            gradients = [fault.prepare(gradient) for gradient in gradients]
        return self._lane(gradients, start, start + length)

    def _lane(self, gradients: Sequence[Tree], start: int, resume: int) -> Lane:
        spike = resume + self.steps
        kept = list(gradients[: spike + AFTERMATH])
        factor = _SPIKE * self.norm / tree_norm(kept[spike])
        kept[spike] = jax.tree.map(lambda leaf: factor * leaf, kept[spike])
        return Lane(kept, start, resume, spike)


def default_params(seed: int) -> Tree:
    """Parameters of the small tree on which transformations are tested: a dense layer, a scalar."""
    random = np.random.default_rng(seed)
    shapes = {"bias": (4,), "kernel": (3, 4)}
    dense = {name: np.float32(random.standard_normal(shape)) for name, shape in shapes.items()}
    return {"dense": dense, "scale": np.float32(random.standard_normal(()))}


def record(params: Tree, count: int, *, steps: int, norm: float, seed: int) -> Recording:
    """Draws gradients with Student-t entries: heavy tails, yet no fault among them.

    Args:
      params: What they are gradients of.
      count: How many.
      steps: How many ordinary steps follow a fault.
      norm: Their median norm.
      seed: Of the draw.
    """
    # Not the numbers of which the parameters are made.
    random = np.random.default_rng([seed, 1])
    drawn = [
        jax.tree.map(
            lambda leaf: np.asarray(random.standard_t(_DEGREES_OF_FREEDOM, np.shape(leaf))), params
        )
        for _ in range(count)
    ]
    factor = norm / float(np.median([tree_norm(gradient) for gradient in drawn]))
    scaled = [jax.tree.map(lambda leaf: factor * leaf, gradient) for gradient in drawn]
    return Recording(scaled, norm, steps)
