"""Scopes: which entries of a gradient share a norm.

A scope is a frozen, hashable object. For each leaf it says which axes keep a norm of their own,
and under which label the leaf is measured: leaves with one label form one block. Three words
cover most needs: `"global"` (one norm for the whole tree), `"leaf"` (one for each array) and
`"unit"` (one for each output unit of a kernel: all axes but the last are reduced, vectors and
scalars are one block). The functions of this module build the others.

Leaves are named by their path, `"encoder/dense/kernel"`, alike for nested dictionaries, Flax
linen and Flax NNX. A glob pattern fits a leaf if it fits the path or some whole names in a row of
it: `"head"`, `"head/*"` and `"kernel"` all fit `"params/head/kernel"`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, Protocol

import jax
import optax

from clipax import _validate
from clipax._typing import Where

__all__ = ["Block", "Scope", "by_label", "exclude", "stacked"]

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
    def block(self, path: str, ndim: int) -> Block:
        return Block(path, (ndim - 1,) if ndim > 1 else ())


@dataclass(frozen=True)
class _ByLabel:
    labels: tuple[tuple[str, str], ...] | Callable[[str], Any]

    def block(self, path: str, ndim: int) -> Block:
        if callable(self.labels):
            return Block(str(self.labels(path)))
        # A tree of labels may stop above the leaves (a prefix), as for `optax.partition`.
        places = dict(self.labels)
        place = path
        while place not in places and place:
            place = place.rpartition("/")[0]
        if place in places:
            return Block(places[place])
        known = ", ".join(repr(place) for place, _ in self.labels[:8])
        raise ValueError(f"`labels` has no label for the leaf {path!r}; it has {known}.")


@dataclass(frozen=True)
class _Stacked:
    axis: int
    where: Where
    within: Scope

    def block(self, path: str, ndim: int) -> Block:
        if not fits(self.where, path):
            return self.within.block(path, ndim)
        if not -ndim <= self.axis < ndim:
            raise ValueError(
                f"`axis` must be an axis of every stacked leaf, got {self.axis} for {path!r}, "
                f"which has {ndim} axes; say with `where` which leaves are stacked."
            )
        axis = self.axis % ndim
        inner = self.within.block(path, ndim - 1)
        shifted = {kept + (kept >= axis) for kept in inner.keep}
        return inner._replace(keep=tuple(sorted(shifted | {axis})))


@dataclass(frozen=True)
class _Exclude:
    where: Where
    scope: Scope

    def block(self, path: str, ndim: int) -> Block:
        if fits(self.where, path):
            # A label of its own that no other scope gives.
            return Block(f"\0{path}", excluded=True)
        return self.scope.block(path, ndim)


_WORDS: dict[str, Scope] = {GLOBAL: _Global(), "leaf": _Leaf(), "unit": _Unit()}


def resolve(scope: str | Scope) -> Scope:
    """Return the scope of a word; scope objects pass."""
    if isinstance(scope, str):
        _validate.one_of("scope", scope, _WORDS)
        return _WORDS[scope]
    if not hasattr(scope, "block"):
        raise TypeError(
            f"`scope` must be 'global', 'leaf', 'unit' or made by `clipax.scopes`, got {scope!r}."
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
    leaves = jax.tree.leaves(labels)
    if not leaves:
        raise ValueError(f"`labels` must hold at least one label, got {labels!r}.")
    # The label of a whole tree stands above every path.
    names = [""] if jax.tree_util.all_leaves([labels]) else name_leaves(labels)
    return _ByLabel(tuple((name, str(label)) for name, label in zip(names, leaves, strict=True)))


def stacked(axis: int = 0, *, where: Where = "*", within: str | Scope = "leaf") -> Scope:
    """Give one norm to each layer of kernels that `nn.scan` or `nnx.scan` stacks along an axis.

    Args:
      axis: The axis over which layers are stacked; negative counts from the end.
      where: Which leaves are stacked: glob patterns on the path (`"blocks/*"`) or a predicate.
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
    axis = _validate.index("axis", axis, minimum=-64)
    return _Stacked(axis, check_where(where), resolve(within))


def exclude(where: Where, scope: str | Scope = "global") -> Scope:
    """Leave out some parameters: they are neither measured with the others nor scaled.

    An excluded leaf keeps factor 1. It is still checked for non-finite entries, on its own.

    Args:
      where: Which leaves to leave out: glob patterns on the path (`"*/bias"`) or a predicate.
      scope: The scope of all other leaves.

    Returns:
      A scope.

    Example:
      >>> import clipax
      >>> clipax.scopes.exclude(("*/bias", "head/*")).block("head/kernel", ndim=2).excluded
      True
    """
    return _Exclude(check_where(where), resolve(scope))


def name_leaves(tree: Any) -> list[str]:
    """Name the leaves of a tree, alike for linen and NNX, and for a tree with None for some leaves.

    A name that comes twice, as in `{"a/b": ..., "a": {"b": ...}}`, is numbered: `"a/b#2"`.
    """
    return [name for name, missing in _name_places(tree) if not missing]


def _name_places(tree: Any) -> list[tuple[str, bool]]:
    """Pair the names of all leaves with whether they are missing."""
    # None, and what `optax.masked` puts in the place of a leaf, count as leaves: names must not
    # depend on which gradients there are.
    pairs, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_missing)
    above = Counter(keys[:-1] for keys, _ in pairs)
    # NNX keeps an array as the attribute `value` of a variable, which says nothing to a reader; a
    # field `value` with others beside it does.
    raw = [_join(keys, strip=above[keys[:-1]] == 1) or "leaf" for keys, _ in pairs]
    given: set[str] = set()
    names = []
    for name in raw:
        unique, number = name, 1
        while unique in given or (number > 1 and unique in raw):
            number += 1
            unique = f"{name}#{number}"
        given.add(unique)
        names.append(unique)
    return [(name, _is_missing(leaf)) for name, (_, leaf) in zip(names, pairs, strict=True)]


def _is_missing(node: Any) -> bool:
    return node is None or isinstance(node, optax.MaskedNode)


def _join(keys: tuple[Any, ...], *, strip: bool) -> str:
    if strip and len(keys) > 1 and getattr(keys[-1], "name", None) == "value":
        keys = keys[:-1]
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def check_where(where: Where, name: str = "where") -> Where:
    """Return patterns as a tuple; raise under the argument's own name where it is no selection."""
    if callable(where) or isinstance(where, str):
        return where
    if isinstance(where, tuple | list) and all(isinstance(pattern, str) for pattern in where):
        return tuple(where)
    raise TypeError(f"`{name}` must be glob patterns or a predicate on paths, got {where!r}.")


def _patterns(where: Where) -> tuple[str, ...]:
    """Return the patterns; none of a predicate."""
    if callable(where):
        return ()
    return (where,) if isinstance(where, str) else where


def fits(where: Where, path: str) -> bool:
    """Tell whether a selection takes the leaf at a path."""
    if callable(where):
        return bool(where(path))
    return any(matches(pattern, path) for pattern in _patterns(where))


def matches(pattern: str, path: str) -> bool:
    """Tell whether a glob pattern fits a path or some whole names in a row of it.

    So `"head"` and `"head/*"` fit `"params/head/kernel"`, `"kernel"` does too, `"ker"` does not.
    """
    return fnmatchcase(f"/{path}/", f"*/{pattern}/*")


def refuse_unmatched(scope: Scope, tree: Any) -> None:
    """Raise where a pattern of the scope fits no leaf of a tree: it would silently do nothing.

    Raises:
      ValueError: With the pattern and some paths.
    """
    # A pattern may be for a leaf that is None. What `optax.masked` and `partition` put in the place
    # of a part of the tree does not tell the names inside: then nothing is refused.
    paths = [path for path, _ in _name_places(tree)]
    if any(
        isinstance(node, optax.MaskedNode) for node in jax.tree.leaves(tree, is_leaf=_is_missing)
    ):
        return
    inner: Any = scope
    while isinstance(inner, _Exclude | _Stacked):
        # The default of `stacked` is every leaf, of which there may be none.
        for pattern in _patterns(inner.where) if paths else ():
            if not any(matches(pattern, path) for path in paths):
                shown = ", ".join(map(repr, paths[:3]))
                more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
                word = "exclude" if isinstance(inner, _Exclude) else "where"
                raise ValueError(
                    f"`{word}`: every pattern must fit a leaf, {pattern!r} fits none of "
                    f"{shown}{more}. A pattern fits whole names in a row, as 'head' or 'head/*' "
                    f"fit 'params/head/kernel'."
                )
        inner = inner.within if isinstance(inner, _Stacked) else inner.scope
