"""praxis 1.4: `base_layer.WeightHParams`, and `sharded_chain` of `optimizers.py`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

__all__ = ["ShardedGradientTransformation", "WeightHParams", "sharded_chain"]


@dataclasses.dataclass
class WeightHParams:
    shape: Sequence[int]
    init: Any = None
    dtype: Any = None
    collections: Any = None
    mesh_shape: Any = None
    tensor_split_dims_mapping: Any = None


@dataclasses.dataclass(frozen=True)
class ShardedGradientTransformation:
    init: Callable[..., Any]
    update: Callable[..., Any]
    init_partition_spec: Callable[..., Any]


def sharded_chain(*links: ShardedGradientTransformation) -> ShardedGradientTransformation:
    def init(params: Any) -> Any:
        return tuple(link.init(params) for link in links)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        new = []
        for one, link in zip(state, links, strict=True):
            updates, after = link.update(updates, one, params)
            new.append(
                jax.tree.map(
                    lambda leaf: optax.MaskedNode() if leaf is None else leaf,
                    after,
                    is_leaf=lambda leaf: leaf is None,
                )
            )
        return updates, tuple(new)

    def init_partition_spec(specs: Any) -> Any:
        parts = tuple(link.init_partition_spec(specs) for link in links)
        return optax.MaskedState(inner_state=parts)

    return ShardedGradientTransformation(init, update, init_partition_spec)
