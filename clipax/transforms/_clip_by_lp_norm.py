"""The clip of norms other than the Euclidean one, without a change of direction."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import optax

from clipax import _validate, norms
from clipax._typing import AxisName, NonFinite, Norms, Params, ScalarOrSchedule, Updates
from clipax.engine import (
    NormRules,
    ScaleByNormState,
    Spec,
    Step,
    make_transformation,
    scale,
)
from clipax.measure import Measurement, spread
from clipax.scopes import Scope
from clipax.thresholds import Threshold

__all__ = ["clip_by_lp_norm"]


def clip_by_lp_norm(
    threshold: ScalarOrSchedule | Threshold,
    ord: float,
    *,
    scope: str | Scope = "global",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Clip the L1, the maximum or any other p-norm of the gradient.

    With `ord=inf` no entry exceeds the threshold, as in `clip_by_value`, and the direction stays.

        u = min(1, c/||g||_p) g,  ||g||_p = (sum_j |g_j|^p)^(1/p),  ||g||_inf = max_j |g_j|

    Args:
      threshold: Largest p-norm `c`, as for `clip_by_global_norm`; one of `thresholds` sees the
        p-norm. Not one relative to the parameters, whose norm is the Euclidean one.
      ord: The order `p`, at least 1, concrete; infinity is the largest magnitude.
      scope: Which entries share a norm, as for `scale_by_norm`.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`; telemetry has the p-norms.

    Notes:
      - Powers are those of entries over the largest one, so that they do not overflow: a read more
        and a reduction more over the mesh where `ord` is neither 1, 2 nor infinity.

    Example:
      >>> import math, jax.numpy as jnp, clipax
      >>> clip, grads = clipax.clip_by_lp_norm(1.0, math.inf), jnp.array([3.0, -4.0])
      >>> print(clip.update(grads, clip.init(grads))[0])
      [ 0.75 -1.  ]

    References:
      `torch.nn.utils.clip_grad_norm_(norm_type=...)`; no paper.
    """
    _validate.number("ord", ord, "at least 1", lambda p: p >= 1)
    order = _validate.concrete("ord", ord)
    rules = NormRules.of(norms.clip(threshold))
    if rules.needs_params:
        raise ValueError("`threshold` must not depend on the parameters: their norm is Euclidean.")
    spec = Spec.of(scope, nonfinite, axis_name)

    def init(params: Params) -> ScaleByNormState:
        return spec.init(rules, params)

    def update(
        updates: Updates, state: ScaleByNormState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, ScaleByNormState]:
        step = Step.begin(spec, updates, state, params, extra)
        factors = step.decide(rules, _measure(step, order))
        return step.finish(step.apply(scale(), factors))

    return make_transformation(init, update, ScaleByNormState)


def _measure(step: Step, order: float) -> Measurement | Norms:
    """Measure the p-norm of each block."""
    if order == 2:
        return step.norms()
    if order in (1, math.inf):
        return step.magnitudes("sum" if order == 1 else "max")
    largest = step.magnitudes("max")
    powers = []
    for leaf in step.leaves:
        unit = spread(largest[leaf.block.label], leaf)
        relative = jnp.abs(leaf.value).astype(unit.dtype) / jnp.where(unit > 0, unit, 1)
        powers.append(relative**order)
    sums = step.magnitudes("sum", powers)
    # The derivative of a root is infinite at zero.
    return {
        label: jnp.where(
            largest[label] == 0,
            0,
            largest[label] * jnp.where(total == 0, 1, total) ** (1 / order),
        )
        for label, total in sums.items()
    }
