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
      latest: By column of `Telemetry.latest`; whether the norm was above the threshold comes last.
      is_finite: Whether all norms were finite.
      any_finite: Whether some were.
    """

    latest: tuple[Array, ...]
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
    row = Row((*numbers, clipped), finite, finite)
    if group.unit:
        gpu, tpu = _join_at_once, _join_units
        if not is_whole(norms):
            gpu = tpu = _join_by_maxima
        row = _platforms.choose(row, cpu=_join_units, gpu=gpu, tpu=tpu)
    if update_factor is None:
        *numbers, clipped = row.latest
        row = row._replace(latest=(*numbers, jnp.ones_like(clipped), clipped))
    return jax.tree.map(jnp.atleast_1d, row)


def _join_units(units: Row) -> Row:
    """Join the records of a block's units to one: its largest norm, and the smallest of others."""
    (norms, *others, clipped), finite = units.latest, units.is_finite
    largest = jnp.finfo(norms.dtype).max
    latest = (
        jnp.max(norms, where=finite, initial=0),
        *(jnp.min(values, where=finite, initial=largest) for values in others),
        jnp.mean(clipped) if norms.size else jnp.zeros((), norms.dtype),
    )
    return Row(latest, jnp.all(finite), jnp.any(finite))


def _join_by_maxima(units: Row) -> Row:
    """Do the same by a maximum and a sum: over devices each kind of reduction is a collective."""
    (norms, *others, clipped), finite = units.latest, units.is_finite
    lowest = -jnp.finfo(norms.dtype).max
    columns = [
        jnp.where(finite, norms, 0),
        finite.astype(norms.dtype),
        (~finite).astype(norms.dtype),
    ]
    columns += [jnp.where(finite, -values, lowest) for values in others]
    axes = tuple(range(1, norms.ndim + 1))
    norm, some, missing, *rest = jnp.max(jnp.stack(columns), axes, initial=lowest)
    share = jnp.sum(clipped) / max(norms.size, 1)
    latest = (jnp.maximum(norm, 0), *(-value for value in rest), share)
    return Row(latest, missing <= 0, some > 0)


def _join_at_once(units: Row) -> Row:
    """Do the same in one reduction: a GPU launches one kernel, not six.

    JAX has no derivative for it: these records are constants to derivatives.
    """
    (norms, *others, clipped), finite = lax.stop_gradient((units.latest, units.is_finite))
    largest = jnp.finfo(norms.dtype).max
    flags = finite.astype(norms.dtype)
    operands = [jnp.where(finite, norms, 0)]
    operands += [jnp.where(finite, values, largest) for values in others]
    starts = [0, *(largest for _ in others), 0, 1, 0]

    def join(first: Sequence[Array], second: Sequence[Array]) -> Sequence[Array]:
        (norm, *rest, share, every, some), (norm2, *rest2, share2, every2, some2) = first, second
        return (
            jnp.maximum(norm, norm2),
            *map(jnp.minimum, rest, rest2),
            share + share2,
            jnp.minimum(every, every2),
            jnp.maximum(some, some2),
        )

    *latest, share, every, some = lax.reduce(
        (*operands, clipped, flags, flags),
        tuple(jnp.asarray(start, norms.dtype) for start in starts),
        join,
        tuple(range(norms.ndim)),
    )
    return Row((*latest, share / max(norms.size, 1)), every > 0, some > 0)
