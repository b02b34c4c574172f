"""Carries the state of an optimizer over to another one, where a clip in it changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from clipax._states import Path, fields_of, unwrap
from clipax.scopes import name_leaves

__all__ = ["CarriedOver", "carry_over"]


class CarriedOver(NamedTuple):
    """What `carry_over` returns.

    Attributes:
      state: The new state, with what fits of the old one.
      carried: Where in the new state the old one's numbers are, such as `"1/0"`.
      started: Where the new state has the numbers that `init` gave it.
      dropped: Where in the old state numbers are that have no place in the new one.
    """

    state: Any
    carried: tuple[str, ...]
    started: tuple[str, ...]
    dropped: tuple[str, ...]


def carry_over(old_state: Any, new_state: Any) -> CarriedOver:
    """Fill a new optimizer state with what fits of an old one, to go on with another clip.

    Links of a chain are found again by their fields, in order, also where a link came or went, or
    a wrapper. The momentum and the step count of the optimizer go on; so do a clip's records where
    it has the same blocks, and its threshold's memory where the threshold is of the same kind.

    Args:
      old_state: A state of the optimizer of before: optax's clip in it or one of this package,
        live, or restored from a checkpoint as nested dictionaries.
      new_state: What `init(params)` of the new optimizer returned.

    Returns:
      The state, of the structure of `new_state`, and what was carried, started anew and dropped.

    Raises:
      ValueError: Nothing fits.

    Notes:
      A momentum, a threshold's memory or a step count is carried over as a whole or not at all: all
      its arrays must have the names and shapes of before. They are cast to the new types.

    Example:
      >>> import jax.numpy as jnp, optax, clipax
      >>> params = jnp.ones(2)
      >>> old = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)).init(params)
      >>> new = optax.chain(clipax.clip_by_zscore(), optax.adam(0.1)).init(params)
      >>> result = clipax.carry_over(old, new)
      >>> result.carried, result.started
      (('1/0',), ('0/telemetry', '0/rules/before/rows'))
    """
    carry = _Carry(new_state)
    carry.align(list(_links((), new_state)), list(_links((), old_state)))
    if not carry.carried and carry.leaves:
        raise ValueError(
            f"`old_state` must have a part that fits one of `new_state`, got "
            f"{jax.tree.structure(old_state)} for {jax.tree.structure(new_state)}."
        )
    started = [path for path in _parts((), new_state) if path not in carry.carried]
    names = (tuple(map("/".join, paths)) for paths in (carry.carried, started, carry.dropped))
    return CarriedOver(carry.state(), *names)


_Node = tuple[Path, Any]


class _Carry:
    """A new state that is being filled."""

    def __init__(self, new_state: Any) -> None:
        self.leaves, self.structure = jax.tree_util.tree_flatten_with_path(new_state)
        self.values: dict[int, Any] = {}
        self.carried: list[Path] = []
        self.dropped: list[Path] = []

    def state(self) -> Any:
        values = [self.values.get(at, leaf) for at, (_, leaf) in enumerate(self.leaves)]
        return jax.tree.unflatten(self.structure, values)

    def align(self, new: list[_Node], old: list[_Node]) -> None:
        """Pair the links of two chains in order; those that are left, with links inside of them."""
        while True:
            pairs = _pair(new, old)
            for ours, theirs in pairs:
                self.fill(new[ours], old[theirs])
            new = [link for place, link in enumerate(new) if place not in dict(pairs)]
            old = [link for place, link in enumerate(old) if place not in dict(pairs).values()]
            # Links may have changed places: what is left is tried again.
            if not (pairs or _open_wrapper(new) or _open_wrapper(old)):
                break
        self.dropped += [path for path, _ in old]

    def fill(self, new: _Node, old: _Node) -> None:
        """Take over a link as a whole, or part by part where it has others inside."""
        path, node = new
        before = old[1]
        if not _has_links(node):
            if jax.tree.leaves(node) and _fits(node, before):
                self._take(path, node, before)
        elif _has_its_fields(node, before):
            parts = dict(_children(before))
            for name, part in _children(node):
                if name in parts:
                    self.fill(((*path, name), part), ((*old[0], name), parts[name]))
        else:
            self.align(list(_links(path, node)), list(_links(*old)))

    def _take(self, path: Path, node: Any, before: Any) -> None:
        places = [at for at, (keys, _) in enumerate(self.leaves) if _starts(keys, path)]
        found = _read_arrays(before)
        for at, (name, leaf) in zip(places, _read_arrays(node).items(), strict=True):
            self.values[at] = _convert(found[name], leaf)
        self.carried.append(path)


def _starts(keys: tuple[Any, ...], path: Path) -> bool:
    """Tell whether the keys of a leaf begin with a path."""
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in keys[: len(path)]) == path


def _children(node: Any) -> list[tuple[str, Any]]:
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


def _links(path: Path, node: Any) -> Iterator[_Node]:
    """Find the states of the links of a chain, in order; those without arrays are left out."""
    fields = fields_of(unwrap(node))
    if isinstance(node, list | tuple) if fields is None else _is_numbered(fields):
        for name, child in _children(node):
            yield from _links((*path, name), child)
    elif jax.tree.leaves(node):
        yield path, node


def _has_links(node: Any) -> bool:
    """Tell whether there are states of others inside a node."""
    return any(
        (hasattr(child, "_fields") and bool(jax.tree.leaves(child))) or _has_links(child)
        for _, child in _children(node)
    )


def _open_wrapper(links: list[_Node]) -> bool:
    """Replace the first wrapper by the links inside; tell whether there was one."""
    for place, (path, node) in enumerate(links):
        found: list[_Node] = []
        for name, child in _children(node):
            if name == "inner_states":  # of `optax.partition`: a dictionary from label to state
                for label, part in _children(child):
                    found += _links((*path, name, label), part)
            elif name.startswith("inner"):
                found += _links((*path, name), child)
        if found:
            links[place : place + 1] = found
            return True
    return False


def _pair(new: list[_Node], old: list[_Node]) -> list[tuple[int, int]]:
    """Pair as much as possible of two chains without a change of order, by position.

    A link counts twice if all of it fits: of two clips that which did not change.
    """
    # By how many links of each are looked at: the best sum, and its pairs.
    best: dict[tuple[int, int], tuple[int, list[tuple[int, int]]]] = {}
    for ours in range(len(new) + 1):
        for theirs in range(len(old) + 1):
            choices: list[tuple[int, list[tuple[int, int]]]] = [(0, [])]
            if ours and theirs:
                target, source = new[ours - 1][1], old[theirs - 1][1]
                value = 2 if _fits(target, source) else int(_has_its_fields(target, source))
                before, pairs = best[ours - 1, theirs - 1]
                choices += [best[ours - 1, theirs], best[ours, theirs - 1]]
                if value:
                    choices.append((before + value, [*pairs, (ours - 1, theirs - 1)]))
            best[ours, theirs] = max(choices, key=lambda choice: choice[0])
    return best[len(new), len(old)][1]


def _parts(path: Path, node: Any) -> Iterator[Path]:
    """Find what is carried over as a whole or not at all."""
    if _has_links(node):
        for name, child in _children(node):
            yield from _parts((*path, name), child)
    elif jax.tree.leaves(node):
        yield path


def _read_arrays(node: Any) -> dict[str, Any]:
    return dict(zip(name_leaves(node), jax.tree.leaves(node), strict=True))


def _fits(new: Any, old: Any) -> bool:
    """Tell whether two nodes have arrays of the same names and shapes, and name the same blocks."""
    if hasattr(new, "_fields") and hasattr(old, "_fields") and type(new) is not type(old):
        return False
    ours, theirs = _read_arrays(new), _read_arrays(old)
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


def _convert(old: Any, new: Any) -> Any:
    """Give an array the type of another, and its place where that is fixed."""
    value = old if jnp.result_type(old) == new.dtype else jnp.asarray(old, new.dtype)
    if getattr(new, "committed", False):
        return jax.device_put(value, new.sharding)
    return jnp.asarray(value)


def _has_its_fields(new: Any, old: Any) -> bool:
    """Tell whether a node has the fields of another, but for those that hold nothing."""
    ours, theirs = fields_of(unwrap(new)), fields_of(unwrap(old))
    if not ours or not theirs or not theirs.keys() <= ours.keys():
        return False
    return not any(jax.tree.leaves(ours[name]) for name in ours.keys() - theirs.keys())
