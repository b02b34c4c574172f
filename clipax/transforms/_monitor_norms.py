"""The transformation that measures norms and changes nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from clipax._export import exportable
from clipax._statistics import _histogram
from clipax._statistics._histogram import HistogramState
from clipax._typing import Array, AxisName, NonFinite, Params, Updates
from clipax.engine import NormRules, ScaleByNormState, Spec, Step, hide, make_transformation, scale
from clipax.norms import Decision, NormRule
from clipax.scopes import Scope
from clipax.thresholds import Context

__all__ = ["MonitorNormsState", "monitor_norms"]


@exportable
class MonitorNormsState(NamedTuple):
    """State of `monitor_norms`; every array is finite at all times.

    Attributes:
      watch: The records of the norms, and their histograms.
    """

    watch: ScaleByNormState


def monitor_norms(
    *,
    scope: str | Scope = "global",
    nonfinite: NonFinite = "propagate",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Remember the distribution of gradient norms, and change nothing.

    In front of a clip it sees the raw norms, behind one the clipped norms: put it in front to find
    out where to clip, with `clipax.advise(opt_state)`. It needs no threshold and costs one read.

        u_t = g_t,  N_j <- N_j + [n_t < 2^((j + 1)/8 - 64)],  j < 1024

    Args:
      scope: Which entries share a norm, as for `scale_by_norm`.
      nonfinite: As for `scale_by_norm`; `"propagate"` (default) counts such gradients; they pass.
      axis_name: As for `scale_by_norm`.

    Returns:
      A `GradientTransformationExtraArgs` with a `MonitorNormsState`; `metrics`, `advise` and
      `diagnostics` read it.

    Notes:
      - The state has 4 KiB a block at any time, with scope `"unit"` more than most parameters.
      - Quantiles in [2^-64, 2^64] are within 4.5 %, `2^(1/16)`; zeros count in the lowest bin.

    Example:
      >>> import jax.numpy as jnp, optax, clipax
      >>> monitor = clipax.monitor_norms()
      >>> state = monitor.init(jnp.zeros(1))
      >>> for size in range(1, 101):
      ...     update, state = monitor.update(jnp.array([1.0 * size]), state)
      >>> print(update, clipax.diagnostics.norm_quantiles(state, (0.5, 0.9)).round())  # of 50, 90
      [100.] [52. 87.]

    References:
      A building block; no paper. `clipax.diagnostics.tail_index` has that of the tail index.
    """
    spec = Spec.of(scope, nonfinite, axis_name)
    rules = NormRules.of(_count_norms())

    def init(params: Params) -> MonitorNormsState:
        return MonitorNormsState(spec.init(rules, params))

    def update(
        updates: Updates, state: MonitorNormsState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, MonitorNormsState]:
        step = Step.begin(spec, updates, state.watch, params, extra)
        factors = step.decide(rules, step.norms())
        if nonfinite == "zero":
            passed = step.apply(scale(), factors, saturate=False)
        else:
            # A gradient passes even if it is not finite: there is nothing to scale.
            passed = hide([leaf.value for leaf in step.leaves])
        updates, watch = step.finish(passed)
        return updates, MonitorNormsState(watch)

    return make_transformation(init, update, MonitorNormsState)


def _count_norms() -> NormRule:
    """Make the rule that adds norms to the histogram and clips nothing."""

    def update(
        norms: Array, state: HistogramState, context: Context
    ) -> tuple[Decision, HistogramState]:
        decision = Decision(jnp.ones_like(norms), jnp.full_like(norms, jnp.inf))
        return decision, _histogram.update(state, norms)

    return NormRule(_histogram.init, update)
