"""axlearn: `common/optimizer_base.py`, `common/optimizers.py`, and `TensorSpec` of `utils.py`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

__all__ = ["OptParam", "OptStateSpec", "PartitionedGradientTransformation", "with_partition_fn"]


@dataclasses.dataclass
class OptStateSpec:
    shape: tuple[int, ...]
    dtype: Any = None
    mesh_axes: Any = None


@dataclasses.dataclass
class OptParam:
    value: jax.Array
    factorization_spec: Any = None
    weight_decay_scale: float | None = None


class PartitionedGradientTransformation(NamedTuple):
    init: Callable[..., Any]
    update: Callable[..., Any]
    partition: Callable[..., Any]


def with_partition_fn(
    base: optax.GradientTransformation, partition_fn: Callable[..., Any]
) -> PartitionedGradientTransformation:
    def values(params: Any) -> Any:
        return jax.tree.map(lambda param: param.value, params)

    def init(params: Any) -> Any:
        return base.init(values(params))

    def update(updates: Any, state: Any, params: Any) -> Any:
        return base.update(updates, state, values(params))

    return PartitionedGradientTransformation(init=init, update=update, partition=partition_fn)
