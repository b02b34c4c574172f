"""A threshold that is recorded and clips nothing."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from clipax._typing import Array, ScalarOrSchedule
from clipax.norms._base import Decision, NormRule
from clipax.thresholds import Context, Threshold, as_threshold

__all__ = ["observe"]


def observe(threshold: ScalarOrSchedule | Threshold) -> NormRule:
    """Record a threshold and leave every gradient as it is.

    A dry run: the threshold follows the norms, and the telemetry says what it would have done.
    Prefer it to a clip where an estimator is only to be read, as per-example clipping does with
    `thresholds.geometric_quantile`, or to try one on a run before it may change the run.

    Args:
      threshold: The threshold to watch: a positive number, an `optax.Schedule` of the step count,
        or a `Threshold`, whose memory is kept.

    Returns:
      A `NormRule` whose factor is always 1, and whose state is that of the threshold.

    Notes:
      - The threshold is that of the decision, so `clipax.metrics` reports it, and `clip_fraction`
        is the share of the steps that it would have clipped. `clip_factor` stays 1.
      - In `chain` with a clip the smaller threshold is recorded, and steps above it count. To keep
        the two apart, put the observer into a `scale_by_norm` of its own.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> watch = clipax.scale_by_norm(clipax.norms.observe(clipax.thresholds.median(2.0)))
      >>> state = watch.init(jnp.zeros(1))
      >>> for norm in (1.0, 1.0, 1.0, 50.0):
      ...     update, state = watch.update(jnp.array([norm]), state)
      >>> metrics = clipax.metrics(state)
      >>> print(update, metrics["threshold"], metrics["clip_fraction"])
      [50.] 2.0 0.25
    """
    source = as_threshold(threshold)

    def update(norms: Array, state: Any, context: Context) -> tuple[Decision, Any]:
        now, state = source.update(norms, state, context)
        return Decision(jnp.ones_like(norms), now), state

    return NormRule(source.init, update, source.needs_params, never_amplifies=True)
