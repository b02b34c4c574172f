"""Selections of leaves: by patterns of their paths, a predicate on them, or a tree of flags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import jax
import numpy as np

from clipax.scopes._names import name_leaves

__all__ = ["Labelled", "Selection", "check_where", "fits", "label_places", "matches"]


Selection = tuple[str, ...] | Callable[[str], Any]
"""A checked selection: patterns, or a predicate."""


@dataclass(frozen=True)
class Labelled:
    """What a tree holds for each leaf, or for a part of the tree: it may stop above the leaves.

    Attributes:
      places: Pairs of a path and what the tree holds there.
      name: Name of the argument in errors.
    """

    places: tuple[tuple[str, Any], ...]
    name: str

    def __call__(self, path: str) -> Any:
        """Look up a leaf by its path."""
        known = dict(self.places)
        place = path
        while place not in known and place:
            place = place.rpartition("/")[0]
        if place in known:
            return known[place]
        shown = ", ".join(repr(place) for place in list(known)[:8])
        raise ValueError(f"`{self.name}` has nothing for the leaf {path!r}; it has {shown}.")

    def refuse_unknown(self, paths: Sequence[str]) -> None:
        """Raise where the tree says something of a leaf that is none of these."""
        for place, _ in self.places:
            if place and not any(f"{path}/".startswith(f"{place}/") for path in paths):
                shown = ", ".join(map(repr, paths[:3])) + (", ..." if len(paths) > 3 else "")
                raise ValueError(
                    f"`{self.name}` must be a tree like the parameters' or a prefix of it: there "
                    f"is no {place!r} in {shown}."
                )


def label_places(tree: Any, name: str) -> Labelled:
    """Read a tree of labels or flags, which may be a prefix of the parameters' tree."""
    # The label of a whole tree stands above every path.
    names = [""] if jax.tree_util.all_leaves([tree]) else name_leaves(tree)
    return Labelled(tuple(zip(names, jax.tree.leaves(tree), strict=True)), name)


def check_where(where: Any, name: str = "where") -> Selection:
    """Return the patterns of a selection, or its predicate, into which a tree of flags is made.

    Raises:
      TypeError: It is no selection; under the argument's own name.
    """
    if callable(where):
        return where
    found = (where,) if isinstance(where, str) else where
    if isinstance(found, tuple | list) and all(isinstance(pattern, str) for pattern in found):
        return tuple(found)
    flags = jax.tree.leaves(where)
    if flags and all(_is_flag(flag) for flag in flags):
        return label_places(where, name)
    raise TypeError(
        f"`{name}` must be glob patterns, a predicate on paths or a tree of booleans, got "
        f"{where!r}."
    )


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) == np.bool_


def fits(where: Selection, path: str) -> bool:
    """Tell whether a selection takes the leaf at a path."""
    if callable(where):
        return bool(where(path))
    return any(matches(pattern, path) for pattern in where)


def matches(pattern: str, path: str) -> bool:
    """Tell whether a glob pattern fits a path or some whole names in a row of it.

    So `"head"` and `"head/*"` fit `"params/head/kernel"`, `"kernel"` does too, `"ker"` does not.
    """
    return fnmatchcase(f"/{path}/", f"*/{pattern}/*")
