"""Leaves of a tree: their names, their blocks, and the types in which to compute with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from clipax import scopes
from clipax._typing import NUMBERS, Array
from clipax.scopes import Block, Scope

__all__ = [
    "Leaf",
    "accumulation_dtype",
    "find_row",
    "index_by_path",
    "name_leaves",
    "narrow",
    "narrow_inwards",
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


def name_leaves(tree: Any, scope: Scope, *, check_patterns: bool = False) -> tuple[list[Leaf], Any]:
    """Flatten a tree to floating-point arrays with names and blocks, and its structure.

    Leaves may be shapes, as `jax.eval_shape` gives them, where only these are used.

    Args:
      tree: The tree.
      scope: The scope that gives the blocks.
      check_patterns: Whether the tree is complete: then every pattern of the scope must fit a leaf.

    Raises:
      TypeError: A leaf is not of a floating-point or complex type.
      ValueError: A pattern fits no leaf.
    """
    raws, structure = jax.tree.flatten(tree)
    names = scopes.name_leaves(tree)
    if check_patterns:
        scopes.refuse_unmatched(scope, tree)
    leaves = []
    for path, raw in zip(names, raws, strict=True):
        value: Any = raw if isinstance(raw, jax.ShapeDtypeStruct) else jnp.asarray(raw)
        if not jnp.issubdtype(value.dtype, jnp.inexact):
            raise TypeError(
                f"Every leaf must be floating-point or complex, got {value.dtype} for {path!r}; "
                f"leave other parameters out with `optax.masked` or `optax.partition`."
            )
        leaves.append(Leaf(path, value, scope.block(path, value.ndim)))
    return leaves, structure


def replace_values(leaves: Sequence[Leaf], values: Sequence[Array]) -> list[Leaf]:
    """Replace the values of leaves."""
    return [leaf._replace(value=value) for leaf, value in zip(leaves, values, strict=True)]


def index_by_path(tree: Any) -> dict[str, Any]:
    """Flatten a tree to a dictionary of arrays by name; functions and the like stay as they are."""
    leaves = (
        jnp.asarray(leaf) if isinstance(leaf, NUMBERS) else leaf for leaf in jax.tree.leaves(tree)
    )
    return dict(zip(scopes.name_leaves(tree), leaves, strict=True))


def find_row(rows: Mapping[str, T], path: str) -> T:
    """Find the row of a state for the leaf or block of that name.

    Raises:
      ValueError: The state does not know it.
    """
    if path not in rows:
        raise ValueError(
            f"`state` has no row for {path!r}: initialise it with all the parameters, {path!r} "
            f"included."
        )
    return rows[path]


def accumulation_dtype(dtypes: Sequence[Any]) -> Any:
    """Return float64 where any of the dtypes is double precision, else float32."""
    double = any(jnp.finfo(dtype).bits > 32 for dtype in dtypes)
    return jnp.float64 if double else jnp.float32


def wide_dtype(dtype: Any, norm_dtype: Any) -> Any:
    """Return the type in which to multiply a leaf with numbers of the norms' type."""
    double = accumulation_dtype([dtype, norm_dtype]) == jnp.float64
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return jnp.complex128 if double else jnp.complex64
    return jnp.float64 if double else jnp.float32


def narrow(value: Array, dtype: Any) -> Array:
    """Cast `value` to a type, clamped at its largest float: it does not become infinite."""
    if value.dtype == dtype or jnp.issubdtype(dtype, jnp.complexfloating):
        return value.astype(dtype)
    largest = jnp.finfo(dtype).max.astype(value.dtype)
    return jnp.clip(value, -largest, largest).astype(dtype)


def narrow_inwards(value: Array, dtype: Any) -> Array:
    """Cast numbers within the range of a type; to a subnormal number of it towards zero.

    Rounding to the nearest may double such a number, and a norm with it. Types with the exponents
    of float32 have no such numbers: XLA takes them for zeros.
    """
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return value.astype(dtype)
    info = jnp.finfo(dtype)
    if info.minexp <= jnp.finfo(value.dtype).minexp or info.bits > 16:
        return value.astype(dtype)
    unit = float(info.smallest_subnormal)
    small = jnp.abs(value) < float(info.smallest_normal)
    return jnp.where(small, jnp.trunc(value * (1 / unit)) * unit, value).astype(dtype)


def reduced_axes(ndim: int, block: Block) -> tuple[int, ...]:
    """Return the axes over which a leaf is reduced."""
    return tuple(axis for axis in range(ndim) if axis not in block.keep)


def spread(values: Array, leaf: Leaf) -> Array:
    """Insert axes of size 1 into norm-shaped values, to broadcast against their leaf."""
    return jnp.expand_dims(values, reduced_axes(leaf.value.ndim, leaf.block))
