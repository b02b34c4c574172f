"""The blocks of a step in groups, and what is remembered of them.

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

from clipax._typing import Array, Norms
from clipax.measure import find_row, narrow
from clipax.norms import NormRule
from clipax.thresholds import Threshold

__all__ = [
    "BlockStates",
    "Group",
    "block_key",
    "group_blocks",
    "init_rule",
    "init_states",
    "keep_rows",
    "select_rows",
    "update_rows",
]


def block_key(label: str) -> str:
    """The key of a block in a dictionary of a state.

    No name that anybody searches a state for, whatever users call their blocks.
    """
    return f"block:{label}"


class BlockStates(NamedTuple):
    """What a rule remembers of all blocks.

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
      norms: Their norms, stacked if `rows` is given; those of the one label otherwise.
      rows: Rows of the labels in the state; None where the state has no rows to choose from.
      unit: Whether it is one block with norms of its units.
    """

    labels: tuple[str, ...]
    norms: Array
    rows: np.ndarray | None
    unit: bool

    def stack(self, values: Mapping[str, Any]) -> Any:
        """Values by label in the order of the norms."""
        if self.rows is None:
            return values[self.labels[0]]
        return jnp.stack([values[label] for label in self.labels])

    def unstack(self, values: Array) -> Iterator[tuple[str, Array]]:
        """Pairs of a label and its values."""
        if self.rows is None:
            return iter([(self.labels[0], values)])
        return zip(self.labels, jnp.unstack(values), strict=True)


def init_states(
    rule: NormRule | None, shapes: Mapping[str, tuple[int, ...]], *, collapse: bool, dtype: Any
) -> Any:
    """The states before the first step; `()` without a rule.

    Args:
      rule: What decides.
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
        # Without leaves `optax.tree.map_params` asks for the structure: one array stands for the
        # labels, whatever they are.
        units if shapes else jnp.zeros(0, jnp.int32),
    )


def init_rule(rule: NormRule | Threshold, shape: tuple[int, ...], dtype: Any) -> Any:
    """The state before the first step, floating-point arrays in the dtype of the norms."""

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
    """The blocks that were measured, in groups.

    Args:
      labels: All labels of the state, in order.
      state: What `init_states` made for them.
      norms: Norms by label.
      stacked: Those of the blocks that have one norm, as a vector in the order of their labels,
        where they were stacked before.
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


def select_rows(state: BlockStates, group: Group) -> Any:
    """The rows of a group; a copy only where blocks are missing."""
    if group.unit:
        return state.units[block_key(group.labels[0])]
    return jax.tree.map(lambda rows: rows if _whole(group, rows) else rows[group.rows], state.rows)


def update_rows(state: BlockStates, group: Group, finite: Array, new: Any) -> BlockStates:
    """The state with new rows for what is finite of a group."""
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


def keep_rows(finite: Array, new: Any, old: Any) -> Any:
    """The new rows where a block's norm is finite, else the old ones."""

    def choose(new: Array, old: Array) -> Array:
        lead = finite.reshape(finite.shape + (1,) * (old.ndim - finite.ndim))
        return jnp.where(lead, new.astype(old.dtype), old)

    return jax.tree.map(choose, new, old)


def _whole(group: Group, rows: Array) -> bool:
    """The ordinary case, in which nothing needs to be gathered or scattered."""
    return group.rows is None or np.array_equal(group.rows, np.arange(rows.shape[0]))
