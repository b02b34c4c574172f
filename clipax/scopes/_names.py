"""Names the leaves of a tree by their paths, alike for linen and NNX."""

from __future__ import annotations

from collections import Counter
from typing import Any

import jax
import optax

__all__ = ["is_missing", "leaves_by_name", "name_leaves", "name_places"]


def name_leaves(tree: Any) -> list[str]:
    """Name the leaves of a tree, alike for linen and NNX, and for a tree with None for some leaves.

    A name that comes twice, as in `{"a/b": ..., "a": {"b": ...}}`, is numbered: `"a/b#2"`.
    """
    return [name for name, missing in name_places(tree) if not missing]


def leaves_by_name(tree: Any) -> dict[str, Any]:
    """Flatten a tree to a dictionary of leaves by name, as they are."""
    return dict(zip(name_leaves(tree), jax.tree.leaves(tree), strict=True))


def name_places(tree: Any) -> list[tuple[str, bool]]:
    """Pair the names of all leaves with whether they are missing."""
    # None, and what `optax.masked` puts in the place of a leaf, count as leaves: names must not
    # depend on which gradients there are.
    pairs, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_missing)
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
    return [(name, is_missing(leaf)) for name, (_, leaf) in zip(names, pairs, strict=True)]


def is_missing(node: Any) -> bool:
    return node is None or isinstance(node, optax.MaskedNode)


def _join(keys: tuple[Any, ...], *, strip: bool) -> str:
    if strip and len(keys) > 1 and getattr(keys[-1], "name", None) == "value":
        keys = keys[:-1]
    return jax.tree_util.keystr(keys, simple=True, separator="/")
