"""The little arithmetic on trees that all oracles share: float64 NumPy, one loop over leaves each.

A tree is a flat dict from a path such as ``"dense/kernel"`` to a float64 array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Tree = dict[str, NDArray[np.float64]]
Updates = list[Tree]
Schedule = float | Callable[[int], float]
"""A number, or a function of the 0-based step."""
Oracle = Callable[..., Updates]
"""``oracle(gradients, params, **keywords) -> updates``, one tree for each step."""


def at(value: Schedule, step: int) -> float:
    """The value of a schedule at a 0-based step; a number is its own schedule."""
    return float(value(step)) if callable(value) else float(value)


def norm(tree: Tree) -> float:
    """The Euclidean norm of the whole tree."""
    return math.sqrt(sum(float(np.sum(leaf * leaf)) for leaf in tree.values()))


def is_finite(tree: Tree) -> bool:
    """Tell whether every entry is a finite number."""
    return all(bool(np.isfinite(leaf).all()) for leaf in tree.values())


def is_remembered(tree: Tree) -> bool:
    """Tell whether a threshold remembers a gradient: it is finite, and not zero."""
    return is_finite(tree) and norm(tree) > 0.0


def zeros(tree: Tree) -> Tree:
    """A tree of zeros of the same shapes."""
    return {path: np.zeros_like(leaf) for path, leaf in tree.items()}


def scale(factor: float, tree: Tree) -> Tree:
    """``factor * tree``."""
    return {path: factor * leaf for path, leaf in tree.items()}


def add(first: Tree, second: Tree) -> Tree:
    """``first + second``, leaf by leaf."""
    return {path: first[path] + second[path] for path in first}


def clip(tree: Tree, threshold: float) -> Tree:
    """``min(1, c/n) g``, with ``clip(0, c) = 0``."""
    size = norm(tree)
    return tree if size <= threshold else scale(threshold / size, tree)


def by_step(rule: Callable[[Tree, int], Tree], gradients: Sequence[Tree]) -> Updates:
    """Runs a rule without memory; a gradient that is not finite gives a zero update."""
    return [
        rule(gradient, step) if is_finite(gradient) else zeros(gradient)
        for step, gradient in enumerate(gradients)
    ]
