"""The loss of a step, which `skip_spikes` may judge beside the gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from clipax._export import exportable
from clipax._typing import Array
from clipax.thresholds import Context, Threshold
from clipax.thresholds._base import keep_rows

__all__ = ["LossState", "init_loss", "judge_loss", "read_loss"]

_NAMES = "value", "loss"
"""What optax calls it, and what trainers do."""


@exportable
class LossState(NamedTuple):
    """The records of the losses, and the memory of their threshold.

    Attributes:
      threshold: That of the last finite loss, at most the largest float.
      spikes: Numbers of steps with a spike of the loss, and with one of the gradient, int32.
      rule: State of the threshold.
    """

    threshold: Array
    spikes: Array
    rule: Any


def init_loss(threshold: Threshold, dtype: Any) -> LossState:
    """Make the records before the first step."""
    most = jnp.asarray(jnp.finfo(dtype).max, dtype)
    return LossState(most, jnp.zeros(2, jnp.int32), threshold.init(()))


def read_loss(extra: Mapping[str, Any]) -> Array:
    """Read the loss from the extra arguments of `update`.

    Raises:
      TypeError: It is no real number.
      ValueError: It is missing, given twice, or no scalar.
    """
    given = [name for name in _NAMES if extra.get(name) is not None]
    if len(given) > 1 and extra[given[0]] is not extra[given[1]]:
        raise ValueError(
            "`value` and `loss` are two names of the loss that `skip_spikes` judges: give one, got "
            f"{extra['value']!r} and {extra['loss']!r}."
        )
    name = next(iter(given), None)
    if name is None:
        raise ValueError(
            "`value` must be given where `skip_spikes` judges the loss: call `update(updates, "
            "state, params, value=loss)`, or `loss=loss`."
        )
    dtype = jnp.result_type(extra[name])
    if not any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer)):
        raise TypeError(f"`{name}` must be a real number, got an array of {dtype}.")
    if shape := np.shape(extra[name]):
        raise ValueError(
            f"`{name}` must be a scalar, the loss that all devices share, got the shape {shape}."
        )
    return jnp.asarray(extra[name])


def judge_loss(
    threshold: Threshold, state: LossState, loss: Array, count: Array, other: Array
) -> tuple[Array, LossState]:
    """Tell whether a loss is a spike, and record it; one that is not finite is, and is forgotten.

    Args:
      threshold: The largest loss that is no spike.
      state: The records before the step.
      loss: The loss.
      count: Number of steps before this one.
      other: Whether the gradient is a spike.
    """
    dtype = state.threshold.dtype
    loss = loss.astype(dtype)
    finite = jnp.isfinite(loss)
    limit, rule = threshold.update(jnp.where(finite, loss, 0), state.rule, Context(count))
    limit = jnp.minimum(limit.astype(dtype), jnp.finfo(dtype).max)
    spike = ~finite | (loss > limit)
    more = optax.safe_increment(state.spikes)
    spikes = jnp.where(jnp.stack([spike, other]), more, state.spikes)
    kept = keep_rows(finite, (limit, rule), (state.threshold, state.rule))
    return spike, LossState(kept[0], spikes, kept[1])
