"""Type aliases for signatures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import numpy as np
import optax
from jax.sharding import PartitionSpec

__all__ = ["NUMBERS", "Array", "AxisName", "NonFinite", "Norms", "Scalar", "ScalarOrSchedule"]

Array = jax.Array
# A Python or NumPy number, or a zero-dimensional array (which may be traced).
Scalar = float | int | np.ndarray | jax.Array
ScalarOrSchedule = Scalar | optax.Schedule
# Treatment of a block whose norm is not finite: zero update, or NaN.
NonFinite = Literal["zero", "propagate"]
# The types of leaves that are numbers; of a whole Equinox model some leaves are functions.
NUMBERS = (jax.Array, np.ndarray, np.generic, float, int, complex)
# Mesh axes that a norm spans inside `shard_map`; a mapping names them leaf by leaf, or gives the
# leaf's `PartitionSpec`.
AxisName = str | tuple[str, ...] | Mapping[str, str | tuple[str, ...] | PartitionSpec] | None
# One array of norms for each label of a scope.
Norms = dict[str, jax.Array]
# A selection of leaves: glob patterns on the path "a/kernel", a predicate on it, or a tree of
# booleans.
Where = str | tuple[str, ...] | Callable[[str], bool] | Mapping[str, Any]
Params = Any
Updates = Any
