"""The faults: functions that replace ordinary gradients by bad ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from clipax import _validate

__all__ = ["FAULTS", "Fault", "tree_norm"]

Tree = Any
Apply = Callable[[Sequence[Tree], float], Sequence[Tree]]


@dataclass(frozen=True)
class Fault:
    """One way in which gradients go wrong, for `inject_faults`.

    Attributes:
      name: Its name in reports.
      apply: From the ordinary gradients of `length` successive steps (trees of NumPy arrays) and
        their typical norm to the gradients that replace them. None for a fault of the whole run,
        which then has a `prepare`.
      length: Number of steps that it lasts, at least 1.
      dtype: Type of parameters and gradients in all runs, also without the fault; None (default)
        for the type of the given parameters.
      prepare: Changes the parameters and every gradient of the run with the fault; it may only add
        leaves without entries. None (default) changes nothing.

    Raises:
      ValueError: There is neither `apply` nor `prepare`.

    Example:
      >>> import jax, optax, clipax
      >>> flip = clipax.testing.Fault(
      ...     "flipped", lambda steps, norm: [jax.tree.map(lambda g: -1e3 * g, steps[0])]
      ... )
      >>> report = clipax.testing.inject_faults(optax.scale(-0.1), faults=[flip])
      >>> report.verdict
      'recovers'
    """

    name: str
    apply: Apply | None
    length: int = 1
    dtype: str | None = None
    prepare: Callable[[Tree], Tree] | None = None

    def __post_init__(self) -> None:
        _validate.index("length", self.length, minimum=1)
        if self.apply is None and self.prepare is None:
            raise ValueError(f"`apply` or `prepare` must be given, got neither for {self.name!r}.")


def tree_norm(tree: Tree) -> float:
    """Compute the Euclidean norm of all entries, in float64."""
    return float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree))))


def _set_entry(value: float) -> Apply:
    """Put a value in place of the first entry of the largest leaf."""

    def apply(gradients: Sequence[Tree], norm: float) -> Sequence[Tree]:
        return [_replace_entry(gradient, value) for gradient in gradients]

    return apply


def _replace_entry(tree: Tree, value: float) -> Tree:
    leaves, structure = jax.tree.flatten(tree)
    place = max(range(len(leaves)), key=lambda index: leaves[index].size)
    changed = np.array(leaves[place])
    changed.flat[0] = value
    return jax.tree.unflatten(structure, [*leaves[:place], changed, *leaves[place + 1 :]])


def _rescale(size: float, *, relative: bool = False) -> Apply:
    """Rescale each gradient to a norm; if `relative`, in units of the typical norm."""

    def apply(gradients: Sequence[Tree], norm: float) -> Sequence[Tree]:
        target = size * norm if relative else size
        return [_scale(gradient, target / tree_norm(gradient)) for gradient in gradients]

    return apply


def _scale(tree: Tree, factor: float) -> Tree:
    return jax.tree.map(lambda leaf: factor * leaf, tree)


def _zero_out(gradients: Sequence[Tree], norm: float) -> Sequence[Tree]:
    return [jax.tree.map(np.zeros_like, gradient) for gradient in gradients]


def _equalise_norms(gradients: Sequence[Tree], norm: float) -> Sequence[Tree]:
    """Give all entries one magnitude and keep their signs: norms equal to the last bit."""
    size = norm / np.sqrt(sum(leaf.size for leaf in jax.tree.leaves(gradients[0])))
    return [jax.tree.map(lambda leaf: np.copysign(size, leaf), gradient) for gradient in gradients]


def _freeze(gradients: Sequence[Tree], norm: float) -> Sequence[Tree]:
    """Give one leaf a zero gradient, as that of a layer that is frozen.

    The smallest that has a tenth of the entries: its updates show, and the norm of all the others
    is almost what it was.
    """
    leaves, structure = jax.tree.flatten(gradients[0])
    sizes = [leaf.size for leaf in leaves]
    frozen = sizes.index(min(size for size in sizes if size >= min(0.1 * sum(sizes), max(sizes))))

    def freeze(tree: Tree) -> Tree:
        leaves = jax.tree.leaves(tree)
        leaves[frozen] = np.zeros_like(leaves[frozen])
        return jax.tree.unflatten(structure, leaves)

    return [freeze(gradient) for gradient in gradients]


def _raise(gradients: Sequence[Tree], norm: float) -> Sequence[Tree]:
    """Make gradients of a thousandfold size, from which the ordinary ones fall."""
    return [_scale(gradient, 1e3) for gradient in gradients]


def _alternate(gradients: Sequence[Tree], norm: float) -> Sequence[Tree]:
    return [_scale(gradient, 1e3 if step % 2 else 1e-3) for step, gradient in enumerate(gradients)]


def _overflow(gradients: Sequence[Tree], norm: float) -> Sequence[Tree]:
    """Set every entry near the largest of float16, so that its square is infinite."""
    return [jax.tree.map(lambda leaf: np.copysign(6e4, leaf), gradient) for gradient in gradients]


def _add_empty_leaf(tree: Tree) -> Tree:
    """Put a leaf of size 0 beside the tree."""
    return {"tree": tree, "without_entries": np.zeros((0, 3), jax.tree.leaves(tree)[0].dtype)}


_STRETCH, _PHASE = 30, 120

FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        fault.name: fault
        for fault in (
            Fault("nan", _set_entry(np.nan)),
            Fault("infinity", _set_entry(np.inf)),
            Fault("zero", _zero_out),
            Fault("zeros", _zero_out, length=_PHASE),
            Fault("frozen", _freeze, length=_PHASE),
            Fault("constant_norms", _equalise_norms, length=_STRETCH),
            Fault("1e38", _rescale(1e38)),
            Fault("1e-38", _rescale(1e-38)),
            Fault("float16_overflow", _overflow, dtype="float16"),
            Fault("spike", _rescale(1e6, relative=True)),
            Fault("dip", _rescale(1e-6, relative=True)),
            Fault("alternating", _alternate, length=_STRETCH),
            Fault("fall", _raise, length=_PHASE),
            Fault("empty_leaf", None, prepare=_add_empty_leaf),
        )
    }
)
"""The faults of this suite, by name."""
