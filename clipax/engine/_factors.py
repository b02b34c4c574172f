"""The factors of one step, block by block, and how they reach the leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from clipax import _platforms
from clipax._typing import Array
from clipax.engine._blocks import Group
from clipax.engine._telemetry import Telemetry, known_labels
from clipax.norms import Decision

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
    decisions: Sequence[Decision],
    update_factors: Sequence[Array | None],
    telemetry: Telemetry,
) -> dict[str, BlockFactors]:
    """Read the factors of blocks that have one norm out of the records of the step.

    The records are computed anyway, so that a GPU launches no kernel for the factor, and XLA for
    GPU merges the kernels of leaves that share a vector. A TPU has one program of scalars instead
    of one for each leaf. Where other blocks have units, all records wait for the norms of these: a
    TPU then reads the vectors of the decision, with which a training step moves less
    (`benchmarks/NOTES.md`). On a CPU the factors are taken as they were decided.

    Args:
      factors: The factors by label, as they were decided.
      groups: The groups.
      decisions: The decision on each group.
      update_factors: The factor of the update of each group; None for a factor of 1.
      telemetry: The records of the step.
    """
    order = known_labels(telemetry)
    single = {
        group.labels: BlockFactors(
            decision.factor,
            jnp.ones_like(group.norms) if update_factor is None else update_factor,
            jnp.isfinite(group.norms),
        )
        for group, decision, update_factor in zip(groups, decisions, update_factors, strict=True)
        if not group.unit
    }
    chosen = [label for labels in single for label in labels]
    scales_update = any(factor is not None for factor in update_factors)

    def from_records(
        latest: Array, counts: Array, vectors: list[BlockFactors], decided: dict[str, BlockFactors]
    ) -> dict[str, BlockFactors]:
        # Behind a barrier, or XLA computes the factor again from the norm.
        latest, counts = lax.optimization_barrier((latest, counts))
        read = telemetry._replace(latest=latest, counts=counts)
        update = read.update_factor if scales_update else jnp.ones_like(read.update_factor)
        columns = BlockFactors(read.clip_factor, update, read.is_finite)
        if telemetry.names is None:
            return decided | dict.fromkeys(chosen, columns)
        rows = zip(order, *map(jnp.unstack, columns), strict=False)
        known = {label: BlockFactors(*row) for label, *row in rows}
        return decided | {label: known[label] for label in chosen}

    def from_decisions(
        latest: Array, counts: Array, vectors: list[BlockFactors], decided: dict[str, BlockFactors]
    ) -> dict[str, BlockFactors]:
        read = dict(decided)
        for labels, columns in zip(single, lax.optimization_barrier(vectors), strict=True):
            rows = zip(labels, *map(jnp.unstack, columns), strict=True)
            read |= {label: BlockFactors(*row) for label, *row in rows}
        return read

    def as_decided(
        latest: Array, counts: Array, vectors: list[BlockFactors], decided: dict[str, BlockFactors]
    ) -> dict[str, BlockFactors]:
        return dict(decided)

    return _platforms.choose(
        telemetry.latest,
        telemetry.counts,
        list(single.values()),
        factors,
        cpu=as_decided,
        gpu=from_records,
        tpu=from_records if len(single) == len(groups) else from_decisions,
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
