"""StableAdamW: AdamW with update clipping.

M. Wortsman, T. Dettmers, L. Zettlemoyer, A. Morcos, A. Farhadi, L. Schmidt, "Stable and
low-precision training for large-scale vision-language models", NeurIPS 2023, arXiv 2304.13013.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import lax

from clipax import _validate, norms
from clipax._statistics._moving import bias_correction, weigh_newest
from clipax._typing import Array, AxisName, NonFinite, Params, Scalar, ScalarOrSchedule, Updates
from clipax.engine import (
    Moments,
    NormRules,
    ScaleByNormState,
    Spec,
    Step,
    adam,
    chain,
    count_steps,
    counted_steps,
    hide,
    make_transformation,
)
from clipax.measure import Derived, find_row, index_by_path, wide_dtype

__all__ = ["stable_adamw"]


class _Sources(NamedTuple):
    """The arrays from which the ratios of the gradients to their scales are computed."""

    gradients: Sequence[Array]
    scales: Sequence[Array]
    squares: Sequence[tuple[Array, Array]]
    eps: Array


def scale_by_stable_adam(
    *,
    b1: Scalar,
    b2: Scalar,
    eps: Scalar,
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Divide each leaf of Adam's direction with weight decay by `max(1, rms(g/max(s, eps)))`.

    The telemetry is of that root mean square. It is finite if and only if the gradient is: a ratio
    is at most `1/sqrt(1 - b2)`. So the gradient itself is not measured.
    """
    moments = Moments(b1, b2, eps)
    if weight_decay is not None:
        _validate.non_negative("weight_decay", weight_decay)
    spec = Spec.of("leaf", nonfinite, axis_name)
    rule = adam(moments, weight_decay=weight_decay)
    rules = NormRules.of(count_steps(norms.clip(1.0)))

    def init(params: Params) -> ScaleByNormState:
        return spec.init(rules, params, rule)

    def update(
        updates: Updates, state: ScaleByNormState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, ScaleByNormState]:
        step = Step.begin(spec, updates, state, params, extra, needs_params=rule.needs_params)
        steps = counted_steps(state, step.leaves)
        scales = index_by_path(state.memory["scales"])
        sources = _Sources(
            [leaf.value for leaf in step.leaves],
            [find_row(scales, leaf.path) for leaf in step.leaves],
            [_weigh(b2, count, step.dtype) for count in steps.values()],
            # Behind a barrier: of a constant that two loops share XLA writes out whole arrays.
            lax.optimization_barrier(jnp.asarray(eps, step.dtype)),
        )
        derived = Derived(_compute_ratios, sources, bounded=True)
        lengths, _ = step.norms(_compute_ratios(sources), derived)
        sizes = step.sizes
        root_mean_squares = {
            path: length / max(sizes[path], 1) ** 0.5 for path, length in lengths.items()
        }
        factors = step.decide(rules, root_mean_squares)
        on_update = {path: block.on_update() for path, block in factors.items()}
        # Both readings compute the second moment, which XLA would write out.
        hidden = hide([leaf.value for leaf in step.leaves])
        return step.finish(step.apply(rule, on_update, values=hidden, steps=steps))

    return make_transformation(init, update, ScaleByNormState)


def _weigh(b2: Scalar, steps: Array, dtype: Any) -> tuple[Array, Array]:
    """Compute the weights of the stored average and of a new square in the corrected average."""
    stored = jnp.asarray(b2, dtype) / bias_correction(b2, steps + 1, dtype)
    return stored, weigh_newest(b2, steps, dtype)


def _compute_ratios(sources: _Sources) -> Sequence[Array]:
    """Compute the magnitudes of the gradients over their new scales, which are at least `eps`.

    From quotients by the magnitude: no square overflows, and XLA for CPU fuses all of it into the
    sum, where it would write out each step of a hypotenuse.
    """
    ratios = []
    for gradient, scales, (old, new) in zip(*sources[:3], strict=True):
        sizes = jnp.abs(gradient.astype(wide_dtype(gradient.dtype, sources.eps.dtype)))
        held = scales.astype(sizes.dtype)
        # Ratios of 1e-12 and less count for nothing. XLA would write out a selection instead.
        small = 2.0**-40
        floor = jnp.maximum(sources.eps * small, jnp.finfo(sizes.dtype).smallest_normal)
        unit = jnp.maximum(sizes, jnp.maximum(held * small, floor))
        square = old * jnp.square(held / unit) + new
        ratio = 1 / jnp.sqrt(jnp.maximum(square, jnp.square(sources.eps / unit)))
        # An infinite entry has a finite ratio: this difference makes it NaN, for the guard.
        ratios.append(ratio + (sizes - sizes))
    return ratios


def stable_adamw(
    learning_rate: ScalarOrSchedule,
    *,
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    eps: Scalar = 1e-6,
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Run AdamW, slower in each leaf whose gradient outgrows its second moment (StableAdamW).

    Where gradients grow all of a sudden the second moment lags behind and Adam's steps are too
    long; the rate of that leaf is divided by the excess. Prefer it to a clip in front of AdamW.

        m_t = bhat_1 m_{t-1} + (1 - bhat_1) g_t,
        v_t = bhat_2 v_{t-1} + (1 - bhat_2) g_t^2,
        bhat = b (1 - b^(t-1))/(1 - b^t),
        R_t = sqrt(mean(g_t^2/max(v_t, epsilon^2))),
        x_{t+1} = x_t - eta_t/max(1, R_t) (m_t/(sqrt(v_t) + epsilon) + lambda x_t)

    entry by entry, the mean over each leaf; `t` counts from 1.

    Args:
      learning_rate: Step size `eta`; non-negative, or an `optax.Schedule`.
      b1: Decay rate `b_1` of the momentum, in [0, 1); default .9.
      b2: Decay rate `b_2` of squares, in [0, 1); default .99 (bfloat16: `scale_by_norm`).
      eps: Least scale `epsilon` of an entry, from 1e-37 on; default 1e-6 (authors: 1e-8).
      weight_decay: `lambda`, decoupled, non-negative; needs `params`. None (default): none.
      nonfinite: As for `scale_by_norm`, leaf by leaf.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, whose updates are added to the parameters. Telemetry is of `R_t`, by leaf.

    Notes:
      - `R_t <= 1/sqrt(1 - bhat_2)`: it never overflows, and the first step is AdamW's.
      - After a spike the step is at most about Adam's longest; the scales stay as large as the
        spike for about `1/(1 - b2)` steps for each factor of e.
      - Gradient and scales are read once more than by Adam; collectives as in `scale_by_norm`. The
        authors' code decays the weights at the rate that is not clipped.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.stable_adamw(1.0, b1=0.0, b2=0.75)
      >>> _, state = optimizer.update(jnp.array([1.0]), optimizer.init(jnp.zeros(1)))
      >>> update, state = optimizer.update(jnp.array([7.0]), state)
      >>> print(clipax.metrics(state)["grad_norm"].round(4))  # R = 7/sqrt(3/7 + 4/7 49)
      1.3129

    References:
      Wortsman et al., arXiv 2304.13013, Algorithm 2; Shazeer, Stern, arXiv 1804.04235.
    """
    _validate.learning_rate(learning_rate)
    return chain(
        scale_by_stable_adam(
            b1=b1,
            b2=b2,
            eps=eps,
            weight_decay=weight_decay,
            nonfinite=nonfinite,
            axis_name=axis_name,
        ),
        optax.scale_by_learning_rate(learning_rate),
    )
