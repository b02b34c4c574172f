"""The links of an optimizer's state: what is carried over to another one, part by part."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from clipax._states import Path, fields_of, unwrap
from clipax.scopes import leaves_by_name

__all__ = [
    "Node",
    "children",
    "find_links",
    "find_optimizer_state",
    "find_parts",
    "fits",
    "has_its_fields",
    "is_open",
    "open_wrapper",
    "read_arrays",
]

_PARTS = frozenset(
    {"telemetry", "rules", "before", "after", "total", "of_gradient", "of_momentum", "watch"}
)
"""Fields of states that are carried over one by one; so are those called `inner...`."""


Node = tuple[Path, Any]
"""Where a part of a state is, and the part."""


def children(node: Any) -> list[tuple[str, Any]]:
    """List what is directly inside a node of a state, by name or position."""
    fields = fields_of(unwrap(node))
    if fields is not None:
        # A checkpoint may have turned a tuple into a dictionary.
        in_order = sorted(fields, key=int) if _is_numbered(fields) else fields
        return [(str(name), fields[name]) for name in in_order]
    if isinstance(node, list | tuple):
        return [(str(place), child) for place, child in enumerate(node)]
    return []


def _is_numbered(fields: Mapping[str, Any]) -> bool:
    return bool(fields) and all(str(name).isdigit() for name in fields)


def find_optimizer_state(state: Any) -> Any:
    """Return the part of what a framework keeps that is the optimizer's."""
    if isinstance(state, Mapping):
        return state.get("opt_state", state)
    return getattr(state, "opt_state", state)


def _is_record(node: Any) -> bool:
    """Tell whether a node of a live state has fields."""
    return hasattr(node, "_fields") or dataclasses.is_dataclass(node)


def _is_chain(node: Any) -> bool:
    """Tell whether a node is a sequence of states, or states by name (`optax.named_chain`)."""
    fields = fields_of(unwrap(node))
    if fields is None:
        return isinstance(node, list | tuple)
    return _is_numbered(fields) or (
        isinstance(node, Mapping) and any(_is_record(child) for child in node.values())
    )


def is_open(node: Any) -> bool:
    """Tell whether a node is carried over part by part."""
    if _is_record(node):
        return any(name in _PARTS or name.startswith("inner") for name, _ in children(node))
    return _is_chain(node) and any(
        _is_record(child) or is_open(child) for _, child in children(node)
    )


def find_links(path: Path, node: Any) -> Iterator[Node]:
    """Find the states of the links of a chain, in order; those without arrays are left out."""
    if _is_chain(node):
        for name, child in children(node):
            yield from find_links((*path, name), child)
    elif jax.tree.leaves(node):
        yield path, node


def open_wrapper(links: list[Node]) -> bool:
    """Replace the first wrapper by the links inside; tell whether there was one."""
    for place, (path, node) in enumerate(links):
        named = children(node)
        inside = [child for child in named if child[0].startswith("inner")]
        if isinstance(node, Mapping) and all(
            isinstance(child, Mapping) or not jax.tree.leaves(child) for _, child in named
        ):
            inside = named  # a `named_chain` or labels, restored as dictionaries
        found = [link for name, child in inside for link in find_links((*path, name), child)]
        if found:
            links[place : place + 1] = found
            return True
    return False


def find_parts(path: Path, node: Any) -> Iterator[Path]:
    """Find what is carried over as a whole or not at all."""
    if is_open(node):
        for name, child in children(node):
            yield from find_parts((*path, name), child)
    elif jax.tree.leaves(node):
        yield path


def read_arrays(node: Any) -> dict[str, Any]:
    """Read the arrays of a node by name, alike for Flax NNX and what Orbax restores of it."""
    found = leaves_by_name(unwrap(node))
    if found and all(name.endswith("/value") for name in found):
        return {name.removesuffix("/value"): leaf for name, leaf in found.items()}
    return found


def fits(new: Any, old: Any) -> bool:
    """Tell whether two nodes have arrays of the same names and shapes, and name the same blocks."""
    if hasattr(new, "_fields") and hasattr(old, "_fields") and type(new) is not type(old):
        return False
    ours, theirs = read_arrays(new), read_arrays(old)
    return ours.keys() == theirs.keys() and all(
        _agree(leaf, theirs[name]) for name, leaf in ours.items()
    )


def _agree(new: Any, old: Any) -> bool:
    if jnp.shape(new) != jnp.shape(old):
        return False
    ours, theirs = jnp.result_type(new), jnp.result_type(old)
    if ours == jnp.uint8:  # names of blocks
        return np.array_equal(new, old)
    kinds = (jnp.floating, jnp.integer, jnp.complexfloating)
    return ours == theirs or any(
        jnp.issubdtype(ours, kind) and jnp.issubdtype(theirs, kind) for kind in kinds
    )


def has_its_fields(new: Any, old: Any) -> bool:
    """Tell whether a node has the fields of another; those more that it has must be empty.

    Where it is carried over part by part, what the other has not begins anew: checkpoints leave
    out what holds nothing.
    """
    ours, theirs = fields_of(unwrap(new)), fields_of(unwrap(old))
    if not ours or not theirs or not theirs.keys() <= ours.keys():
        return False
    more = ours.keys() - theirs.keys()
    return is_open(new) or not any(jax.tree.leaves(ours[name]) for name in more)
