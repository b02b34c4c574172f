"""Leaves of a tree: their names, their blocks, and the types in which they are computed with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from clipax import scopes
from clipax._typing import Array
from clipax.scopes import Block, Scope

__all__ = [
    "Leaf",
    "accumulation_dtype",
    "find_row",
    "index_by_path",
    "name_leaves",
    "narrow",
    "reduced_axes",
    "replace_values",
    "spread",
    "wide_dtype",
]

T = TypeVar("T")


class Leaf(NamedTuple):
    """A leaf of a tree, with its path and the block that a scope gives it."""

    path: str
    value: Array
    block: Block


def name_leaves(tree: Any, scope: Scope) -> tuple[list[Leaf], Any]:
    """The leaves of `tree` as floating-point arrays with their blocks, and the tree's structure.

    Raises:
      TypeError: A leaf is not of a floating-point or complex type.
      ValueError: Two leaves have one name, such as `{"a/b": ..., "a": {"b": ...}}`.
    """
    pairs, structure = jax.tree_util.tree_flatten_with_path(tree)
    leaves = []
    for path, (_, raw) in zip(scopes.leaf_names(pairs), pairs, strict=True):
        value = jnp.asarray(raw)
        if not jnp.issubdtype(value.dtype, jnp.inexact):
            raise TypeError(
                f"Every leaf must be floating-point or complex, got {value.dtype} for {path!r}; "
                f"leave other parameters out with `optax.masked` or `optax.partition`."
            )
        leaves.append(Leaf(path, value, scope.block(path, value.ndim)))
    names = Counter(leaf.path for leaf in leaves)
    if twice := [path for path, times in names.items() if times > 1]:
        raise ValueError(f"Every leaf must have a name of its own, several are {twice[0]!r}.")
    return leaves, structure


def replace_values(leaves: Sequence[Leaf], values: Sequence[Array]) -> list[Leaf]:
    """The leaves with other values."""
    return [leaf._replace(value=value) for leaf, value in zip(leaves, values, strict=True)]


def index_by_path(tree: Any) -> dict[str, Array]:
    """The leaves of a tree by their names."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(tree)
    names = scopes.leaf_names(pairs)
    return {name: jnp.asarray(leaf) for name, (_, leaf) in zip(names, pairs, strict=True)}


def find_row(rows: Mapping[str, T], path: str) -> T:
    """What a state remembers for the leaf or block of that name.

    Raises:
      ValueError: The state does not know it.
    """
    if path not in rows:
        raise ValueError(
            f"The state has no row for {path!r}: initialise it with all the parameters, "
            f"{path!r} included."
        )
    return rows[path]


def accumulation_dtype(dtypes: Sequence[Any]) -> Any:
    """float64 where any of the dtypes is double precision, else float32."""
    double = any(jnp.finfo(dtype).bits > 32 for dtype in dtypes)
    return jnp.float64 if double else jnp.float32


def wide_dtype(dtype: Any, norm_dtype: Any) -> Any:
    """The type in which to multiply a leaf with numbers of the norms' type."""
    double = accumulation_dtype([dtype, norm_dtype]) == jnp.float64
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return jnp.complex128 if double else jnp.complex64
    return jnp.float64 if double else jnp.float32


def narrow(value: Array, dtype: Any) -> Array:
    """`value` in the type in which it is remembered, cut off at the largest float of that."""
    if value.dtype == dtype or jnp.issubdtype(dtype, jnp.complexfloating):
        return value.astype(dtype)
    largest = jnp.finfo(dtype).max.astype(value.dtype)
    return jnp.clip(value, -largest, largest).astype(dtype)


def reduced_axes(ndim: int, block: Block) -> tuple[int, ...]:
    """The axes over which a leaf is reduced."""
    return tuple(axis for axis in range(ndim) if axis not in block.keep)


def spread(values: Array, leaf: Leaf) -> Array:
    """Norm-shaped values with axes of size 1 inserted, to broadcast against their leaf."""
    return jnp.expand_dims(values, reduced_axes(leaf.value.ndim, leaf.block))
