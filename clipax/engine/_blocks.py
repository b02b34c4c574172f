"""Groups of blocks that are decided on together, and the rows of state that belong to them.

Blocks that have one norm each are stacked into one vector: thousands of scalars would cost more
than the step itself. Blocks with a norm for each unit stay by themselves, sharded as their leaves
are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from clipax import _platforms
from clipax._export import exportable
from clipax._typing import Array, Norms
from clipax.measure import find_row, narrow
from clipax.norms import NormRule
from clipax.thresholds import Threshold
from clipax.thresholds._base import keep_rows

__all__ = [
    "BlockStates",
    "Group",
    "block_key",
    "group_blocks",
    "init_rule",
    "init_states",
    "keep_rows",
    "read_together",
    "select_rows",
    "update_rows",
]


def block_key(label: str) -> str:
    """Make the key of a block in a dictionary of a state.

    The prefix keeps a label of a user's choosing, such as `"count"`, apart from the names that
    `optax.tree.get` searches a state for.
    """
    return f"block:{label}"


@exportable
class BlockStates(NamedTuple):
    """The memory of a rule for all blocks.

    Attributes:
      rows: State of the blocks that have one norm, stacked in the order of their labels; not
        stacked for the scope `"global"`, which has one.
      units: By `block_key`, the states of blocks that have a norm for each unit.
    """

    rows: Any
    units: Any


class Group(NamedTuple):
    """Blocks that are decided on together.

    Attributes:
      labels: Their labels, in order.
      norms: Their norms, stacked if `rows` is given; else those of the only label.
      rows: Rows of the labels in the state; None where the state has no rows to choose from.
      unit: Whether it is one block with norms of its units.
    """

    labels: tuple[str, ...]
    norms: Array
    rows: np.ndarray | None
    unit: bool

    def stack(self, values: Mapping[str, Any]) -> Any:
        """Stack values by label in the order of the norms."""
        if self.rows is None:
            return values[self.labels[0]]
        return jnp.stack([values[label] for label in self.labels])

    def unstack(self, values: Array) -> Iterator[tuple[str, Array]]:
        """Split values into pairs of a label and its own."""
        if self.rows is None:
            return iter([(self.labels[0], values)])
        return zip(self.labels, jnp.unstack(values), strict=True)


def init_states(
    rule: NormRule | None, shapes: Mapping[str, tuple[int, ...]], *, collapse: bool, dtype: Any
) -> Any:
    """Make the states before the first step; `()` without a rule.

    Args:
      rule: The rule that decides.
      shapes: The shape of each label's norms, in the order of the labels.
      collapse: Whether there is one label, whose state is not stacked.
      dtype: Type of the norms.
    """
    if rule is None:
        return ()
    scalars = sum(shape == () for shape in shapes.values())
    units = {
        block_key(label): init_rule(rule, shape, dtype)
        for label, shape in shapes.items()
        if shape != ()
    }
    return BlockStates(
        init_rule(rule, () if collapse else (scalars,), dtype),
        # `optax.tree.map_params` initialises a state from a tree without leaves, as a prefix of the
        # real one: there one array stands for the dictionary, whatever its labels.
        units if shapes else jnp.zeros(0, jnp.int32),
    )


def init_rule(rule: NormRule | Threshold, shape: tuple[int, ...], dtype: Any) -> Any:
    """Make the state before the first step, floating-point arrays in the dtype of the norms."""

    def cast(value: Any) -> Array:
        value = jnp.asarray(value)
        return narrow(value, dtype) if jnp.issubdtype(value.dtype, jnp.floating) else value

    return jax.tree.map(cast, rule.init(shape))


def group_blocks(
    labels: Sequence[str],
    state: BlockStates,
    norms: Norms,
    stacked: Array | None = None,
    *,
    collapse: bool,
) -> list[Group]:
    """Sort the blocks that were measured into groups.

    Args:
      labels: All labels of the state, in order.
      state: The states that `init_states` made for them.
      norms: Norms by label.
      stacked: The norms of the blocks that have one each, as a vector in the order of their labels,
        where the measurement stacked them.
      collapse: As for `init_states`.

    Raises:
      ValueError: The state does not know a label.
    """
    known = dict.fromkeys(labels)
    for label in norms:
        find_row(known, label)
    if collapse:
        return [Group((label,), norm, None, unit=False) for label, norm in norms.items()]
    keys = state.units if isinstance(state.units, dict) else {}
    units = [label for label in labels if block_key(label) in keys]
    scalars = [label for label in labels if label not in units]
    groups = []
    if present := tuple(label for label in scalars if label in norms):
        if stacked is None:
            stacked = jnp.stack([norms[label] for label in present])
        rows = np.flatnonzero([label in norms for label in scalars])
        groups.append(Group(present, stacked, rows, unit=False))
    groups += [Group((label,), norms[label], None, unit=True) for label in units if label in norms]
    return groups


def read_together(states: Any, shape: tuple[int, ...]) -> Any:
    """Read all arrays of a shape as one vector, on a GPU.

    XLA for GPU merges the kernels that make new states if they share a vector, not if they share
    scalars; and it copies an array that others read as well before it writes the new one in place.
    A rule or a chain of any length costs two kernels. The number of steps is read along with the
    states for that reason: rules that round by turns use it beside them.
    """
    leaves, structure = jax.tree.flatten(states)
    places = [
        place for place, leaf in enumerate(leaves) if leaf.shape == shape and _is_words(leaf.dtype)
    ]
    small = [leaves[place] for place in places]

    def separately(arrays: list[Array]) -> list[Array]:
        return arrays

    def at_once(arrays: list[Array]) -> list[Array]:
        # As integers: moves of floating-point numbers may lose those that are subnormal.
        bits = [lax.bitcast_convert_type(array, jnp.int32) for array in arrays]
        vector = lax.optimization_barrier(jnp.concatenate([jnp.ravel(part) for part in bits]))
        ends = np.cumsum([part.size for part in bits])[:-1]
        return [
            lax.bitcast_convert_type(part.reshape(like.shape), array.dtype)
            for part, like, array in zip(jnp.split(vector, ends), bits, arrays, strict=True)
        ]

    if len(places) > 1:
        small = _platforms.choose(small, cpu=separately, gpu=at_once, tpu=separately)
    for place, leaf in zip(places, small, strict=True):
        leaves[place] = leaf
    return jax.tree.unflatten(structure, leaves)


def _is_words(dtype: Any) -> bool:
    """Tell whether numbers are whole 32-bit words: flags, keys and narrow numbers are not."""
    kinds = jnp.integer, jnp.floating
    return any(jnp.issubdtype(dtype, kind) for kind in kinds) and dtype.itemsize % 4 == 0


def select_rows(state: BlockStates, group: Group) -> Any:
    """Select the rows of a group; a copy only where blocks are missing."""
    if group.unit:
        return state.units[block_key(group.labels[0])]
    return jax.tree.map(lambda rows: rows if _whole(group, rows) else rows[group.rows], state.rows)


def update_rows(state: BlockStates, group: Group, finite: Array, new: Any) -> BlockStates:
    """Write the new rows of a group where its norms are finite."""
    kept = keep_rows(finite, new, select_rows(state, group))
    if group.unit:
        return state._replace(units=state.units | {block_key(group.labels[0]): kept})
    return state._replace(
        rows=jax.tree.map(
            lambda fresh, rows: fresh if _whole(group, rows) else rows.at[group.rows].set(fresh),
            kept,
            state.rows,
        )
    )


def _whole(group: Group, rows: Array) -> bool:
    """Tell whether a group is all rows in order, so that none needs to be gathered or scattered."""
    return group.rows is None or np.array_equal(group.rows, np.arange(rows.shape[0]))
