"""Ordinary gradients, with the steps of the fault and of the second spike."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from clipax.testing._faults import Fault

__all__ = ["AFTERMATH", "Lane", "Recording", "default_params", "measure_steps", "record"]

Tree = Any

AFTERMATH = 5
"""Steps from the second spike on; a method that delays updates passes it within them."""
_SPIKE = 100.0
"""The second spike, in units of the typical norm."""
_DEGREES_OF_FREEDOM = 4.0


class Lane(NamedTuple):
    """One run: its gradients, and the steps to compare.

    Attributes:
      gradients: A tree of NumPy arrays with a leading axis of steps.
      norms: The norm of each step's gradient.
      start: The first step of the fault.
      resume: The first ordinary step after it (in the run without these steps: `start`).
      spike: The step of the second spike.
    """

    gradients: Tree
    norms: np.ndarray
    start: int
    resume: int
    spike: int


class Recording(NamedTuple):
    """Ordinary gradients, from which the runs are made.

    Attributes:
      gradients: A tree of NumPy arrays with a leading axis of steps.
      norm: Their median norm.
      steps: Number of ordinary steps after a fault.
    """

    gradients: Tree
    norm: float
    steps: int

    def keep_ordinary(self, start: int, length: int) -> Lane:
        """Make the run without a fault, with the steps at which the fault would be."""
        return self._make_lane(self.gradients, start, start + length)

    def leave_out(self, start: int, length: int) -> Lane:
        """Make the run that leaves out the steps of the fault."""
        left_out = slice(start, start + length)
        kept = jax.tree.map(lambda leaf: np.delete(leaf, left_out, axis=0), self.gradients)
        return self._make_lane(kept, start, start)

    def inject(self, fault: Fault, start: int, length: int) -> Lane:
        """Make the run with the fault."""
        gradients = jax.tree.map(np.array, self.gradients)
        if fault.apply is not None:
            ordinary = [
                jax.tree.map(lambda leaf, step=step: np.array(leaf[step]), self.gradients)
                for step in range(start, start + length)
            ]
            changed = fault.apply(ordinary, self.norm)
            if len(changed) != length:
                raise ValueError(
                    f"`apply` of {fault.name!r} must give {length} gradients, gave {len(changed)}."
                )
            for step, gradient in enumerate(changed, start):
                jax.tree.map(
                    lambda leaf, now, at=step: leaf.__setitem__(at, now), gradients, gradient
                )
        lane = self._make_lane(gradients, start, start + length)
        if fault.prepare is None:
            return lane
        return lane._replace(gradients=_prepare(fault.prepare, lane.gradients))

    def _make_lane(self, gradients: Tree, start: int, resume: int) -> Lane:
        spike = resume + self.steps
        kept = jax.tree.map(lambda leaf: np.array(leaf[: spike + AFTERMATH]), gradients)
        norms = measure_steps(kept)
        factor = _SPIKE * self.norm / norms[spike]
        for leaf in jax.tree.leaves(kept):
            leaf[spike] *= factor
        norms[spike] *= factor
        return Lane(kept, norms, start, resume, spike)


def measure_steps(gradients: Tree) -> np.ndarray:
    """Compute the norm of each step's gradient, in float64."""
    leaves = jax.tree.leaves(gradients)
    squares = [np.square(leaf.reshape(len(leaf), -1)).sum(axis=1) for leaf in leaves]
    return np.sqrt(np.sum(squares, axis=0))


def _prepare(prepare: Any, gradients: Tree) -> Tree:
    """Apply `prepare` to the tree of each step and stack the results."""
    steps = len(jax.tree.leaves(gradients)[0])
    trees = [
        prepare(jax.tree.map(lambda leaf, at=step: leaf[at], gradients)) for step in range(steps)
    ]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def default_params(seed: int) -> Tree:
    """Draw the parameters of the default tree: a dense layer and a scalar."""
    random = np.random.default_rng(seed)
    shapes = {"bias": (4,), "kernel": (3, 4)}
    dense = {name: np.float32(random.standard_normal(shape)) for name, shape in shapes.items()}
    return {"dense": dense, "scale": np.float32(random.standard_normal(()))}


def record(params: Tree, count: int, *, steps: int, norm: float, seed: int) -> Recording:
    """Draw gradients with Student-t entries: heavy tails, but no faults.

    Args:
      params: The parameters, whose shapes the gradients have.
      count: Number of gradients.
      steps: Number of ordinary steps after a fault.
      norm: Their median norm.
      seed: Of the draw.
    """
    # A second seed, so that the gradients are independent of the parameters.
    random = np.random.default_rng([seed, 1])
    drawn = jax.tree.map(
        lambda leaf: random.standard_t(_DEGREES_OF_FREEDOM, (count, *np.shape(leaf))), params
    )
    factor = norm / float(np.median(measure_steps(drawn)))
    return Recording(jax.tree.map(lambda leaf: factor * leaf, drawn), norm, steps)
