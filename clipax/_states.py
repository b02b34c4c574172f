"""Finds the state of a transformation in an optimizer state of any nesting."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

__all__ = ["Path", "fields_of", "find", "unwrap"]

T = TypeVar("T")
Path = tuple[str, ...]
"""The names of fields, keys and positions that lead to a node."""


def find(
    state: Any,
    match: Callable[[Mapping[str, Any]], tuple[T, Iterable[str]] | None],
    path: Path = (),
) -> Iterator[tuple[Path, T]]:
    """Find the nodes of a state that match, in order.

    Args:
      state: A state behind `optax.chain`, `partition`, `MultiSteps`, `inject_hyperparams`, in an
        `nnx.Optimizer` or its state, a `TrainState`, or dictionaries restored from a checkpoint.
      match: From the fields of a node to a result and the names of the fields in which to look
        further; None for other nodes.
      path: Where the state itself is.

    Yields:
      Where a node is, and its result.
    """
    node = unwrap(state)
    fields = fields_of(node)
    children: Mapping[str, Any]
    if fields is not None:
        matched = match(fields)
        children = fields
        if matched is not None:
            item, inside = matched
            yield path, item
            children = {name: fields[name] for name in inside}
    elif isinstance(node, list | tuple):
        children = {str(place): child for place, child in enumerate(node)}
    else:
        # `nnx.Optimizer` is neither a mapping nor a dataclass.
        children = {"opt_state": node.opt_state} if hasattr(node, "opt_state") else {}
    for name, child in children.items():
        yield from find(child, match, (*path, str(name)))


def fields_of(node: Any) -> Mapping[str, Any] | None:
    """Return the fields of a named tuple, mapping or dataclass by name; None for others."""
    if isinstance(node, Mapping):
        return node
    if isinstance(node, tuple) and hasattr(node, "_asdict"):
        return node._asdict()
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
    return None


def unwrap(node: Any) -> Any:
    """Return the array inside a variable of Flax NNX; anything else as it is.

    Orbax restores such a variable without a target as a dictionary.
    """
    if isinstance(node, Mapping) and len(node) == 1 and hasattr(node.get("value"), "dtype"):
        return node["value"]
    read = getattr(node, "get_value", None)
    return read() if callable(read) else node
