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
    telemetry: Telemetry,
    *,
    scales_update: bool,
) -> dict[str, BlockFactors]:
    """Read the factors of blocks that have one norm out of the records of the step.

    The records are computed anyway, so that a GPU launches no kernel for the factor, and XLA for
    GPU merges the kernels of leaves that share a vector. A TPU has one program of scalars instead
    of one for each leaf. On a CPU the factors are taken as they were decided.
    """
    order = known_labels(telemetry)
    labels = {label for group in groups if not group.unit for label in group.labels}

    def from_records(latest: Array, counts: Array, decided: Any) -> dict[str, BlockFactors]:
        # Behind a barrier, or XLA computes the factor again from the norm.
        latest, counts = lax.optimization_barrier((latest, counts))
        read = telemetry._replace(latest=latest, counts=counts)
        update = read.update_factor if scales_update else jnp.ones_like(read.update_factor)
        columns = BlockFactors(read.clip_factor, update, read.is_finite)
        if telemetry.names is None:
            return decided | dict.fromkeys(labels, columns)
        rows = zip(order, *map(jnp.unstack, columns), strict=False)
        return decided | {label: BlockFactors(*row) for label, *row in rows if label in labels}

    def as_decided(latest: Array, counts: Array, decided: Any) -> dict[str, BlockFactors]:
        return dict(decided)

    return _platforms.choose(
        telemetry.latest,
        telemetry.counts,
        factors,
        cpu=as_decided,
        gpu=from_records,
        tpu=from_records,
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
