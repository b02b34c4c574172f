"""Carries the state of an optimizer over to another one, where a clip in it changed."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from clipax._links import (
    Node,
    children,
    find_links,
    find_optimizer_state,
    find_parts,
    fits,
    has_its_fields,
    is_open,
    open_wrapper,
    read_arrays,
)
from clipax._states import Path

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
        live, or restored from a checkpoint as nested dictionaries; an `nnx.Optimizer` or a
        `TrainState` will do.
      new_state: What `init(params)` of the new optimizer returned.

    Returns:
      The state, of the structure of `new_state`, and what was carried, started anew and dropped.

    Raises:
      TypeError: Called inside of compiled code.
      ValueError: Nothing fits.

    Notes:
      - The state of an optimizer or the memory of a threshold is carried over as a whole or not at
        all: all its arrays must have the names and shapes of before. They are cast to new types.
      - A schedule that comes in starts at its first step. States of one form are taken for the
        same: the scale of `scale_by_adagrad_norm`, a sum, for that of Adam-Norm, an average.

    Example:
      >>> import jax.numpy as jnp, optax, clipax
      >>> params = jnp.ones(2)
      >>> old = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)).init(params)
      >>> new = optax.chain(clipax.clip_by_zscore(), optax.adam(0.1)).init(params)
      >>> result = clipax.carry_over(old, new)
      >>> result.carried, result.started
      (('1/0',), ('0/telemetry', '0/rules/before'))
    """
    old_state = find_optimizer_state(old_state)
    leaves = jax.tree.leaves((old_state, new_state))
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        raise TypeError("`carry_over` must be called outside of compiled code: it compares names.")
    new, old = list(find_links((), new_state)), list(find_links((), old_state))
    carry = _Carry(new_state)
    carry.align(new, old)
    if not carry.carried and new:
        raise ValueError(
            f"`old_state` must have a part that fits one of `new_state`: none of "
            f"{_describe(old)} has the names and shapes of one of {_describe(new)}."
        )
    started = [path for path in find_parts((), new_state) if path not in carry.carried]
    names = (tuple(map(_write, paths)) for paths in (carry.carried, started, carry.dropped))
    return CarriedOver(carry.state(), *names)


class _Carry:
    """A new state that is being filled."""

    def __init__(self, new_state: Any) -> None:
        pairs, self.structure = jax.tree_util.tree_flatten_with_path(new_state)
        self.leaves = [leaf for _, leaf in pairs]
        self.paths = [
            tuple(jax.tree_util.keystr((key,), simple=True) for key in keys) for keys, _ in pairs
        ]
        self.values: dict[int, Any] = {}
        self.carried: list[Path] = []
        self.dropped: list[Path] = []

    def state(self) -> Any:
        values = [self.values.get(at, leaf) for at, leaf in enumerate(self.leaves)]
        return jax.tree.unflatten(self.structure, values)

    def align(self, new: list[Node], old: list[Node]) -> None:
        """Pair the links of two chains in order; those that are left, with links inside of them."""
        while True:
            pairs = _pair(new, old)
            for ours, theirs in pairs:
                self.fill(new[ours], old[theirs])
            new = [link for place, link in enumerate(new) if place not in dict(pairs)]
            old = [link for place, link in enumerate(old) if place not in dict(pairs).values()]
            # Links may have changed places: what is left is tried again.
            if not (pairs or open_wrapper(new) or open_wrapper(old)):
                break
        self.dropped += [path for path, _ in old]

    def fill(self, new: Node, old: Node) -> None:
        """Take over a link as a whole, or part by part where it has others inside."""
        path, node = new
        before = old[1]
        if not is_open(node):
            if jax.tree.leaves(node) and fits(node, before):
                self._take(path, node, before)
            elif jax.tree.leaves(before):
                self.dropped.append(old[0])
        elif has_its_fields(node, before):
            parts = dict(children(before))
            for name, part in children(node):
                if name in parts:
                    self.fill(((*path, name), part), ((*old[0], name), parts[name]))
        else:
            self.align(list(find_links(path, node)), list(find_links(*old)))

    def _take(self, path: Path, node: Any, before: Any) -> None:
        places = [at for at, place in enumerate(self.paths) if place[: len(path)] == path]
        found = read_arrays(before)
        for at, (name, leaf) in zip(places, read_arrays(node).items(), strict=True):
            self.values[at] = _convert(found[name], leaf)
        self.carried.append(path)


def _convert(old: Any, new: Any) -> Any:
    """Give an array the type of another, and its place where that is fixed."""
    dtype = jnp.result_type(new)
    value = old if jnp.result_type(old) == dtype else jnp.asarray(old, dtype)
    if getattr(new, "committed", False):
        return jax.device_put(value, new.sharding)
    return jnp.asarray(value)


def _describe(links: list[Node]) -> str:
    """List the first links, with the names of their fields."""
    shown = [
        f"{_write(path)} ({', '.join(name for name, _ in children(node)[:4]) or 'an array'})"
        for path, node in links[:4]
    ]
    return ", ".join(shown) + (", ..." if len(links) > 4 else "") if shown else "no arrays"


def _write(path: Path) -> str:
    """Write a place; that of the whole state has no name."""
    return "/".join(path) or "(all)"


def _pair(new: list[Node], old: list[Node]) -> list[tuple[int, int]]:
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
                value = 2 if fits(target, source) else int(has_its_fields(target, source))
                before, pairs = best[ours - 1, theirs - 1]
                choices += [best[ours - 1, theirs], best[ours, theirs - 1]]
                if value:
                    choices.append((before + value, [*pairs, (ours - 1, theirs - 1)]))
            best[ours, theirs] = max(choices, key=lambda choice: choice[0])
    return best[len(new), len(old)][1]
