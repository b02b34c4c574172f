"""The scopes, and the check that their patterns fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import optax

from clipax import _validate
from clipax._typing import Where
from clipax.scopes._names import is_missing, name_places
from clipax.scopes._where import Labelled, Selection, check_where, fits, label_places, matches

__all__ = [
    "GLOBAL",
    "Block",
    "Scope",
    "by_label",
    "exclude",
    "is_global",
    "refuse_unmatched",
    "resolve",
    "stacked",
    "unit",
]

GLOBAL = "global"


class Block(NamedTuple):
    """The way in which one leaf is measured.

    Attributes:
      label: Leaves with the same label share their norms.
      keep: The axes that keep a norm of their own; all others are reduced.
      excluded: Whether the leaf passes with factor 1 (it is still checked for non-finite entries).
    """

    label: str
    keep: tuple[int, ...] = ()
    excluded: bool = False


class Scope(Protocol):
    """The protocol of scopes: any frozen, hashable object with this method is one."""

    def block(self, path: str, ndim: int) -> Block:
        """Return the block of the leaf at `path` that has `ndim` axes."""
        ...


@dataclass(frozen=True)
class _Global:
    def block(self, path: str, ndim: int) -> Block:
        return Block(GLOBAL)


@dataclass(frozen=True)
class _Leaf:
    def block(self, path: str, ndim: int) -> Block:
        return Block(path)


@dataclass(frozen=True)
class _Unit:
    axes: tuple[int, ...] = (-1,)
    where: Selection = ("*",)
    inner: Scope = _Leaf()
    word: ClassVar = "where"

    def block(self, path: str, ndim: int) -> Block:
        if not fits(self.where, path):
            return self.inner.block(path, ndim)
        if ndim < 2:
            return Block(path)
        if any(not -ndim <= axis < ndim for axis in self.axes):
            shown = self.axes[0] if len(self.axes) == 1 else self.axes
            raise ValueError(
                f"`axis` must be an axis of every leaf with units, got {shown} for {path!r}, which "
                f"has {ndim} axes; say with `where` which leaves are meant."
            )
        return Block(path, tuple(sorted({axis % ndim for axis in self.axes})))


@dataclass(frozen=True)
class _ByLabel:
    labels: Callable[[str], Any]

    def block(self, path: str, ndim: int) -> Block:
        return Block(str(self.labels(path)))


@dataclass(frozen=True)
class _Stacked:
    axis: int
    where: Selection
    inner: Scope
    word: ClassVar = "where"

    def block(self, path: str, ndim: int) -> Block:
        if not fits(self.where, path):
            return self.inner.block(path, ndim)
        if not -ndim <= self.axis < ndim:
            raise ValueError(
                f"`axis` must be an axis of every stacked leaf, got {self.axis} for {path!r}, "
                f"which has {ndim} axes; say with `where` which leaves are stacked."
            )
        axis = self.axis % ndim
        inner = self.inner.block(path, ndim - 1)
        shifted = {kept + (kept >= axis) for kept in inner.keep}
        return inner._replace(keep=tuple(sorted(shifted | {axis})))


@dataclass(frozen=True)
class _Exclude:
    where: Selection
    inner: Scope
    word: ClassVar = "exclude"

    def block(self, path: str, ndim: int) -> Block:
        if fits(self.where, path):
            # A label of its own that no other scope gives.
            return Block(f"\0{path}", excluded=True)
        return self.inner.block(path, ndim)


_WORDS: dict[str, Scope] = {GLOBAL: _Global(), "leaf": _Leaf(), "unit": _Unit()}


def resolve(scope: str | Scope, name: str = "scope") -> Scope:
    """Return the scope of a word; scope objects pass. Errors have the argument's own name."""
    if isinstance(scope, str):
        _validate.one_of(name, scope, _WORDS)
        return _WORDS[scope]
    if not hasattr(scope, "block"):
        raise TypeError(
            f"`{name}` must be 'global', 'leaf', 'unit' or made by `clipax.scopes`, got {scope!r}."
        )
    return scope


def is_global(scope: Scope) -> bool:
    """Tell whether the scope is one norm for the whole tree."""
    return isinstance(scope, _Global)


def by_label(labels: Any) -> Scope:
    """Give one norm to each group of parameters.

    Args:
      labels: A tree of strings with the structure of the parameters or a prefix of it, or a
        function from the path `"encoder/dense/kernel"` to a label.

    Returns:
      A scope.

    Raises:
      ValueError: `labels` is an empty tree, or (when used) a leaf has no label.

    Example:
      >>> import clipax
      >>> scope = clipax.scopes.by_label({"encoder": "slow", "head": "fast"})
      >>> scope.block("encoder/dense/kernel", ndim=2).label
      'slow'
    """
    if callable(labels):
        return _ByLabel(labels)
    if not jax.tree.leaves(labels):
        raise ValueError(f"`labels` must hold at least one label, got {labels!r}.")
    return _ByLabel(label_places(labels, "labels"))


def stacked(axis: int = 0, *, where: Where = "*", within: str | Scope = "leaf") -> Scope:
    """Give one norm to each layer of kernels that `nn.scan` or `nnx.scan` stacks along an axis.

    Args:
      axis: The axis over which layers are stacked; negative counts from the end.
      where: Which leaves are stacked: glob patterns on the path (`"blocks/*"`), a predicate, or a
        tree of booleans.
      within: The scope of one layer's slice, and of the leaves that are not stacked.

    Returns:
      A scope.

    Raises:
      ValueError: When used: a leaf that `where` selects has no such axis.

    Example:
      >>> import clipax
      >>> clipax.scopes.stacked(0, where="blocks/*").block("blocks/kernel", ndim=3)
      Block(label='blocks/kernel', keep=(0,), excluded=False)
    """
    axis = _validate.integer("axis", axis, minimum=-64)
    return _Stacked(axis, check_where(where), resolve(within, "within"))


def unit(
    axis: int | tuple[int, ...] = -1, *, where: Where = "*", otherwise: str | Scope = "unit"
) -> Scope:
    """Give one norm to each slice of a kernel, where outputs are not on its last axis alone.

    Args:
      axis: The axes that keep a norm of their own; negative counts from the end. 0 for weights of
        shape (out, in), as in Equinox and PyTorch, and for the rows of an embedding; (-2, -1) for
        attention kernels of shape (in, heads, size).
      where: Which leaves are meant: glob patterns on the path, a predicate, or a tree of booleans.
        Vectors and scalars among them are one block.
      otherwise: The scope of all others.

    Returns:
      A scope.

    Raises:
      ValueError: When used: a kernel that `where` selects has no such axis.

    Example:
      >>> import clipax
      >>> heads = clipax.scopes.unit((-2, -1), where="query/kernel")
      >>> heads.block("attention/query/kernel", ndim=3).keep, heads.block("mlp/kernel", ndim=2).keep
      ((1, 2), (1,))
    """
    axes = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    if not axes:
        raise ValueError("`axis` must be an axis or several, got none.")
    kept = tuple(_validate.integer("axis", one, minimum=-64) for one in axes)
    return _Unit(kept, check_where(where), resolve(otherwise, "otherwise"))


def exclude(where: Where, scope: str | Scope = "global") -> Scope:
    """Leave out some parameters: they are neither measured with the others nor scaled.

    An excluded leaf keeps factor 1. It is still checked for non-finite entries, on its own.

    Args:
      where: Which leaves to leave out: glob patterns on the path (`"*/bias"`), a predicate, or a
        tree of booleans with the structure of the parameters or a prefix of it.
      scope: The scope of all other leaves.

    Returns:
      A scope.

    Example:
      >>> import clipax
      >>> clipax.scopes.exclude(("*/bias", "head/*")).block("head/kernel", ndim=2).excluded
      True
    """
    return _Exclude(check_where(where), resolve(scope))


def refuse_unmatched(scope: Scope, tree: Any) -> None:
    """Raise where a pattern of the scope fits no leaf of a tree: it would silently do nothing.

    Raises:
      ValueError: With the pattern and some paths.
    """
    # A pattern may be for a leaf that is None. What `optax.masked` and `partition` put in the place
    # of a part of the tree does not tell the names inside: then nothing is refused.
    paths = [path for path, _ in name_places(tree)]
    if not paths or any(
        isinstance(node, optax.MaskedNode) for node in jax.tree.leaves(tree, is_leaf=is_missing)
    ):
        return
    for word, where in _list_selections(scope):
        if isinstance(where, Labelled):
            where.refuse_unknown(paths)
        for pattern in () if callable(where) else where:
            if not any(matches(pattern, path) for path in paths):
                shown = ", ".join(map(repr, paths[:3]))
                more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
                raise ValueError(
                    f"`{word}`: every pattern must fit a leaf, {pattern!r} fits none of "
                    f"{shown}{more}. A pattern fits whole names in a row, as 'head' or 'head/*' "
                    f"fit 'params/head/kernel'. All names: "
                    f"`clipax.block_names(clipax.clip_by_leaf_norm(1.0).init(params))`."
                )


def _list_selections(scope: Any) -> Iterator[tuple[str, Selection]]:
    """Find the selections of a scope, outermost first, with the names of their arguments."""
    while isinstance(scope, _Exclude | _Stacked | _Unit):
        yield scope.word, scope.where
        scope = scope.inner
    if isinstance(scope, _ByLabel):
        yield "labels", scope.labels
