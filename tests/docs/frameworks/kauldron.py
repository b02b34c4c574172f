"""Kauldron 1.4: `optim/combine.py`, `metrics/base.py` and `base_state.py`, keys of `kontext`."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import flax.struct
import jax.numpy as jnp
import optax

__all__ = ["AverageState", "Key", "Metric", "kd", "kontext", "named_chain"]


class Key(str):
    pass


def named_chain(**links: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    return optax.named_chain(*links.items())


@flax.struct.dataclass
class AverageState:
    total: Any
    count: Any

    @classmethod
    def from_values(cls, values: Any) -> AverageState:
        return cls(total=values.sum(), count=jnp.float32(values.size))

    def compute(self) -> Any:
        return self.total / self.count


class Metric:
    def get_state(self, **kwargs: Any) -> Any:
        raise NotImplementedError

    def get_state_from_context(self, context: Any) -> Any:
        keys = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if field.type is Key
        }
        return self.get_state(**{name: getattr(context, path) for name, path in keys.items()})


# One module plays `kauldron`, `kauldron.kd`, `kd.optim`, `kd.metrics` and `kauldron.kontext`.
kd = optim = metrics = kontext = sys.modules[__name__]
