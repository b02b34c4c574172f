"""The records of one step: a row for each block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from clipax import _platforms
from clipax._typing import Array
from clipax.engine._blocks import Group
from clipax.measure import is_whole
from clipax.norms import Decision

__all__ = ["Row", "make_rows"]


class Row(NamedTuple):
    """The records of one step: vectors over blocks, or arrays over a block's units.

    Attributes:
      numbers: Norm, threshold, factor of the gradient and factor of the update.
      clipped_norm: The norm that the factor of the gradient leaves.
      share: Whether the norm was above the threshold; the share of units where it was.
      is_finite: Whether all norms were finite.
      any_finite: Whether some were.
    """

    numbers: tuple[Array, ...]
    clipped_norm: Array
    share: Array
    is_finite: Array
    any_finite: Array


def make_rows(
    groups: Sequence[Group], decisions: Sequence[Decision], update_factors: Sequence[Array | None]
) -> Row:
    """Make the records of all groups: vectors over their blocks, in the groups' order.

    Blocks with units, whose records are joined to one each, are behind all others, as
    `group_blocks` puts them.
    """
    rows = [_make_row(*facts) for facts in zip(groups, decisions, update_factors, strict=True)]
    blocks = [row for row, group in zip(rows, groups, strict=True) if not group.unit]
    blocks = [jax.tree.map(jnp.atleast_1d, row) for row in blocks]
    if units := [row for row, group in zip(rows, groups, strict=True) if group.unit]:
        gpu, tpu = _join_each_at_once, _join_each
        if not all(is_whole(row.share) for row in units):
            gpu, tpu = _join_stacked, _join_selected
        blocks.append(_platforms.choose(units, cpu=_join_each, gpu=gpu, tpu=tpu))
    row = jax.tree.map(lambda *parts: jnp.concatenate(parts), *blocks)
    if update_factors[0] is None:  # so are the others
        row = row._replace(numbers=(*row.numbers, jnp.ones_like(row.share)))
    return row


def _make_row(group: Group, decision: Decision, update_factor: Array | None) -> Row:
    """Make the records of a group, of a block's units one by one.

    A factor of the update of None is 1: it needs no reduction.
    """
    norms = group.norms
    finite = jnp.isfinite(norms)
    clipped = (finite & (norms > decision.threshold)).astype(norms.dtype)
    largest = jnp.finfo(norms.dtype).max
    # Infinity ("nothing clips") is recorded as the largest float: a state is finite at all times.
    threshold = jnp.minimum(decision.threshold, largest)
    numbers = [norms, threshold, decision.factor]
    if update_factor is not None:
        numbers.append(update_factor)
    left = jnp.minimum(norms * decision.factor, largest)
    return Row(tuple(numbers), left, clipped, finite, finite)


def _join_units(units: Row) -> Row:
    """Join the records of a block's units to one: its largest norm, and the smallest of others."""
    (norms, *others), finite = units.numbers, units.is_finite
    largest = jnp.finfo(norms.dtype).max
    numbers = (
        jnp.max(norms, where=finite, initial=0),
        *(jnp.min(values, where=finite, initial=largest) for values in others),
    )
    left = jnp.max(units.clipped_norm, where=finite, initial=0)
    share = jnp.mean(units.share) if norms.size else jnp.zeros((), norms.dtype)
    return Row(numbers, left, share, jnp.all(finite), jnp.any(finite))


def _join_by_maxima(stack: Callable[[Sequence[Array]], Array], blocks: list[Row]) -> Row:
    """Do the same for blocks whose units lie on many devices, by a maximum and a sum of each.

    Over devices each kind of reduction is a collective. What follows is done for all blocks at
    once: XLA for TPUs allocates 16 KiB for every scalar.

    Args:
      stack: Stacks arrays of one shape.
      blocks: The records of the units, block by block.
    """
    dtype = blocks[0].share.dtype
    lowest = -jnp.finfo(dtype).max

    def reduce(units: Row) -> tuple[Array, Array]:
        (norms, *others), finite = units.numbers, units.is_finite
        columns = [
            jnp.where(finite, norms, 0),
            jnp.where(finite, units.clipped_norm, 0),
            finite.astype(dtype),
            (~finite).astype(dtype),
        ]
        columns += [jnp.where(finite, -values, lowest) for values in others]
        axes = tuple(range(1, norms.ndim + 1))
        return jnp.max(stack(columns), axes, initial=lowest), jnp.sum(units.share)

    maxima, sums = (jnp.stack(values) for values in zip(*map(reduce, blocks), strict=True))
    norm, left, some, missing, *rest = maxima.T
    sizes = np.array([max(units.share.size, 1) for units in blocks], dtype)
    numbers = (jnp.maximum(norm, 0), *(-value for value in rest))
    return Row(numbers, jnp.maximum(left, 0), sums / sizes, missing <= 0, some > 0)


def _stack_by_selection(arrays: Sequence[Array]) -> Array:
    """Stack arrays by selections, which XLA for TPUs computes as it reduces them.

    It would write `jnp.stack` first (`benchmarks/NOTES.md`).
    """
    row = lax.broadcasted_iota(jnp.int32, (len(arrays), *arrays[0].shape), 0)
    stacked = arrays[-1][None]
    for place in range(len(arrays) - 1):
        stacked = jnp.where(row == place, arrays[place][None], stacked)
    return stacked


def _join_at_once(units: Row) -> Row:
    """Do the same in one reduction: a GPU launches one kernel, not seven.

    JAX has no derivative for it: these records are constants to derivatives.
    """
    units = lax.stop_gradient(units)
    (norms, *others), finite = units.numbers, units.is_finite
    largest = jnp.finfo(norms.dtype).max
    flags = finite.astype(norms.dtype)
    operands = [jnp.where(finite, size, 0) for size in (norms, units.clipped_norm)]
    operands += [jnp.where(finite, values, largest) for values in others]
    starts = [0, 0, *(largest for _ in others), 0, 1, 0]

    def join(first: Sequence[Array], second: Sequence[Array]) -> Sequence[Array]:
        (norm, left, *rest, share, every, some) = first
        (norm2, left2, *rest2, share2, every2, some2) = second
        return (
            jnp.maximum(norm, norm2),
            jnp.maximum(left, left2),
            *map(jnp.minimum, rest, rest2),
            share + share2,
            jnp.minimum(every, every2),
            jnp.maximum(some, some2),
        )

    norm, left, *rest, share, every, some = lax.reduce(
        (*operands, units.share, flags, flags),
        tuple(jnp.asarray(start, norms.dtype) for start in starts),
        join,
        tuple(range(norms.ndim)),
    )
    return Row((norm, *rest), left, share / max(norms.size, 1), every > 0, some > 0)


def _each(join: Callable[[Row], Row], blocks: list[Row]) -> Row:
    """Join the records of one block after the other."""
    return jax.tree.map(lambda *values: jnp.stack(values), *map(join, blocks))


# Made once: JAX traces a form again only for another function.
_join_each = partial(_each, _join_units)
_join_each_at_once = partial(_each, _join_at_once)
_join_stacked = partial(_join_by_maxima, jnp.stack)
_join_selected = partial(_join_by_maxima, _stack_by_selection)
