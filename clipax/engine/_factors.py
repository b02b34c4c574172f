"""The factors of one step, block by block, and how they reach the leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from clipax import _platforms
from clipax._typing import Array
from clipax.engine._blocks import Group
from clipax.engine._telemetry import Telemetry, known_labels

__all__ = ["BlockFactors", "pack", "read_factors", "unpack"]


class BlockFactors(NamedTuple):
    """The factors of one step for a block; arrays of the norms' shape.

    Attributes:
      gradient_factor: Multiplies the gradient.
      update_factor: Multiplies the update that the entry rule makes of it.
      finite: Where the norms are finite; elsewhere the update is filled and memory kept.
    """

    gradient_factor: Array
    update_factor: Array
    finite: Array

    def on_update(self) -> BlockFactors:
        """Exchange the two factors: the decision then applies to the update."""
        return BlockFactors(self.update_factor, self.gradient_factor, self.finite)


def read_factors(
    factors: dict[str, BlockFactors],
    groups: Sequence[Group],
    columns: Sequence[BlockFactors],
    telemetry: Telemetry,
    *,
    scales_update: bool,
) -> dict[str, BlockFactors]:
    """Read the factors of blocks that have one norm out of the records of the step.

    The records are computed anyway, so that a GPU launches no kernel for the factor, and XLA for
    GPU merges the kernels of leaves that share a vector. A TPU has one program of scalars instead
    of one for each leaf. Where other blocks have units, whose records come late, it reads `columns`
    in their place (`benchmarks/NOTES.md`). On a CPU the factors are taken as they were decided.

    Args:
      factors: The factors by label, as they were decided.
      groups: The groups.
      columns: The factors of each group, shaped like its norms.
      telemetry: The records of the step.
      scales_update: Whether a rule decided on the factor of the update; else it is 1.
    """
    order = known_labels(telemetry)
    single = [
        (group, column) for group, column in zip(groups, columns, strict=True) if not group.unit
    ]
    labels = {label for group, _ in single for label in group.labels}

    def from_records(latest: Array, counts: Array, columns: Any, decided: Any) -> Any:
        # Behind a barrier, or XLA computes the factor again from the norm.
        latest, counts = lax.optimization_barrier((latest, counts))
        read = telemetry._replace(latest=latest, counts=counts)
        update = read.update_factor if scales_update else jnp.ones_like(read.update_factor)
        whole = BlockFactors(read.clip_factor, update, read.is_finite)
        if telemetry.names is None:
            return decided | dict.fromkeys(labels, whole)
        rows = zip(order, *map(jnp.unstack, whole), strict=False)
        return decided | {label: BlockFactors(*row) for label, *row in rows if label in labels}

    def from_columns(latest: Array, counts: Array, columns: Any, decided: Any) -> Any:
        read = dict(decided)
        for (group, _), column in zip(single, lax.optimization_barrier(columns), strict=True):
            rows = zip(group.labels, *map(jnp.unstack, column), strict=True)
            read |= {label: BlockFactors(*row) for label, *row in rows}
        return read

    def as_decided(latest: Array, counts: Array, columns: Any, decided: Any) -> Any:
        return dict(decided)

    return _platforms.choose(
        telemetry.latest,
        telemetry.counts,
        [column for _, column in single],
        factors,
        cpu=as_decided,
        gpu=from_records,
        tpu=from_records if len(single) == len(groups) else from_columns,
    )


def pack(factor: Array, finite: Array) -> Array:
    """Pack `finite` into the sign of the factor: one scalar in each leaf's program, not two.

    The division comes last: XLA fuses the operations that follow a division into the program of
    every leaf, here the test of the sign alone and not the root behind the norm. 15 instead of 23
    instructions a leaf (`benchmarks/NOTES.md`).
    """
    return jnp.where(finite, factor, 1) / jnp.where(finite, 1.0, -1.0)


def unpack(packed: Array, update_factor: Array) -> BlockFactors:
    """Invert `pack`."""
    return BlockFactors(jnp.abs(packed), update_factor, packed >= 0)
