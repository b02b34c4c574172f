"""The records of one step: a row for each block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from clipax import _platforms
from clipax._typing import Array
from clipax.engine._blocks import Group
from clipax.measure import is_whole
from clipax.norms import Decision

__all__ = ["Row", "make_row"]


class Row(NamedTuple):
    """The records of a group for one step: vectors over its blocks, or over a block's units.

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


def make_row(group: Group, decision: Decision, update_factor: Array | None) -> Row:
    """Make the records of a group, those of units joined to one.

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
    row = Row(tuple(numbers), left, clipped, finite, finite)
    if group.unit:
        gpu, tpu = _join_at_once, _join_units
        if not is_whole(norms):
            gpu = tpu = _join_by_maxima
        row = _platforms.choose(row, cpu=_join_units, gpu=gpu, tpu=tpu)
    if update_factor is None:
        row = row._replace(numbers=(*row.numbers, jnp.ones_like(row.share)))
    return jax.tree.map(jnp.atleast_1d, row)


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


def _join_by_maxima(units: Row) -> Row:
    """Do the same by a maximum and a sum: over devices each kind of reduction is a collective."""
    (norms, *others), finite = units.numbers, units.is_finite
    lowest = -jnp.finfo(norms.dtype).max
    columns = [
        jnp.where(finite, norms, 0),
        jnp.where(finite, units.clipped_norm, 0),
        finite.astype(norms.dtype),
        (~finite).astype(norms.dtype),
    ]
    columns += [jnp.where(finite, -values, lowest) for values in others]
    axes = tuple(range(1, norms.ndim + 1))
    norm, left, some, missing, *rest = jnp.max(jnp.stack(columns), axes, initial=lowest)
    share = jnp.sum(units.share) / max(norms.size, 1)
    numbers = (jnp.maximum(norm, 0), *(-value for value in rest))
    return Row(numbers, jnp.maximum(left, 0), share, missing <= 0, some > 0)


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
