"""Stable-SPAM: Adam on gradients with entries cut and norms evened out.

T. Huang, H. Hu, Z. Zhang, G. Jin, X. Li, L. Shen, T. Chen, L. Liu, Q. Wen, Z. Wang, S. Liu,
"Stable-SPAM: How to Train in 4-Bit More Stably than 16-Bit Adam", arXiv 2502.17055v2. From v3 on
the article is "GradientStabilizer: Fix the Norm, Not the Gradient" and is of the norms alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from clipax import _validate
from clipax._export import exportable
from clipax._statistics._moving import weigh_newest
from clipax._typing import (
    Array,
    AxisName,
    NonFinite,
    Params,
    Scalar,
    ScalarOrSchedule,
    Updates,
)
from clipax.engine import (
    Moments,
    NormRules,
    RuleStates,
    ScaleByNormState,
    Spec,
    Step,
    adam,
    chain,
    counted_steps,
    forget,
    hide,
    keep_rows,
    make_transformation,
)
from clipax.measure import Derived, wide_dtype
from clipax.norms import Decision, NormRule, stabilize
from clipax.thresholds import Context
from clipax.thresholds._base import is_seen

__all__ = ["stable_spam"]


@exportable
class PeakState(NamedTuple):
    """State of the spike clip; arrays of the norms' shape.

    Attributes:
      steps: Number of steps that counted, int32.
      seen: Number of them with a gradient other than zero, int32.
      peak: Average of the largest entries, with bias correction: the threshold.
    """

    steps: Array
    seen: Array
    peak: Array


def scale_by_stable_spam(
    *,
    b1: Scalar,
    b2: Scalar,
    eps: Scalar,
    peak_decay: Scalar,
    norm_decay: Scalar,
    square_decay: Scalar,
    reset: int | None,
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Compute Adam's direction on cut and normalised gradients, then add the weight decay.

    The telemetry is that of the spike clip: the largest entry of each leaf in place of its norm,
    and the threshold on it.
    """
    moments = Moments(b1, b2, eps)
    every = None if reset is None else _validate.integer("reset", reset, minimum=1)
    if weight_decay is not None:
        _validate.non_negative("weight_decay", weight_decay)
    spec = Spec.of("leaf", nonfinite, axis_name)
    rule = adam(moments, reset=every, weight_decay=weight_decay)
    peak_rule = _cut_spikes(peak_decay)
    norm_rule = stabilize(norm_decay=norm_decay, square_decay=square_decay, eps=eps)
    on_peaks, on_norms = NormRules.of(peak_rule), NormRules.of(norm_rule)

    def init(params: Params) -> ScaleByNormState:
        return spec.init(NormRules.of(peak_rule, after=norm_rule), params, rule)

    def update(
        updates: Updates, state: ScaleByNormState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, ScaleByNormState]:
        step = Step.begin(spec, updates, state, params, extra, needs_params=rule.needs_params)
        peaks = step.magnitudes("max")
        # A trial that is not recorded: whether the step counts is known only with the norms.
        trial = step.with_state(state)
        factors, thresholds = trial.decide(on_peaks, peaks), trial.thresholds()
        limits = [
            Decision(factors[leaf.path].gradient_factor, thresholds[leaf.path])
            for leaf in step.leaves
        ]
        sources = _Sources([leaf.value for leaf in step.leaves], limits)
        lengths, _ = step.norms(_clip_entries(sources), Derived(_clip_entries, sources))
        # The norm of finite entries may overflow: such a step counts for neither of the two.
        both = {
            path: jnp.isfinite(peaks[path]) & jnp.isfinite(length)
            for path, length in lengths.items()
        }
        step.decide(on_peaks, forget(peaks, both))
        second = step.with_state(state._replace(rules=RuleStates(state.rules.after, (), ())))
        factors = second.decide(on_norms, forget(lengths, both))
        later = second.state.rules.before
        step.state = step.state._replace(rules=step.state.rules._replace(after=later))
        hidden = sources._replace(gradients=hide(sources.gradients))
        steps = counted_steps(state, step.leaves)
        return step.finish(step.apply(rule, factors, values=_clip_entries(hidden), steps=steps))

    return make_transformation(init, update, ScaleByNormState)


class _Sources(NamedTuple):
    """The arrays from which the gradients without spikes are computed."""

    gradients: Sequence[Array]
    limits: Sequence[Decision]


def _clip_entries(sources: _Sources) -> Sequence[Array]:
    """Multiply entries above the threshold by the factor, in the dtype in which to compute."""
    clipped = []
    for gradient, (factor, threshold) in zip(*sources, strict=True):
        wide = gradient.astype(wide_dtype(gradient.dtype, threshold.dtype))
        clipped.append(jnp.where(jnp.abs(wide) > threshold, wide * factor, wide))
    return clipped


def _cut_spikes(decay: Scalar) -> NormRule:
    """Make the rule that scales entries above their average peak: the largest down to it."""
    _validate.open_unit("peak_decay", decay)

    def init(shape: tuple[int, ...]) -> PeakState:
        steps, seen = (jnp.zeros(shape, jnp.int32) for _ in range(2))
        return PeakState(steps, seen, jnp.zeros(shape, float))

    def update(peaks: Array, state: PeakState, context: Context) -> tuple[Decision, PeakState]:
        steps = optax.safe_increment(state.steps)
        weight = weigh_newest(decay, state.seen, peaks.dtype)
        # In this form the average of equal numbers is that number, to the last bit.
        peak = state.peak + weight * (peaks - state.peak)
        new = PeakState(steps, optax.safe_increment(state.seen), peak)
        # The averages of sizes leave zeros out, as thresholds do; Adam's count them.
        new = keep_rows(is_seen(peaks), new, state._replace(steps=steps))
        above = peaks > new.peak
        factor = jnp.where(above, new.peak / jnp.where(above, peaks, 1), 1)
        return Decision(factor, new.peak), new

    return NormRule(init, update)


def stable_spam(
    learning_rate: ScalarOrSchedule,
    *,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    norm_decay: Scalar = 0.7,
    square_decay: Scalar = 0.9,
    peak_decay: Scalar = 0.999,
    reset: int | None = 1000,
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Run Adam on gradients whose entries are cut and whose norms are evened out (Stable-SPAM).

    Entries are cut at an average of the largest (AdaClip), norms brought to about 1, less if small
    (AdaGN). Prefer it in very low precision, where norms jump; it needs no threshold.

        T_t = ema_{gamma_3}(max(|g_t|)),
        g'_t = g_t T_t/max(|g_t|)  if |g_t| > T_t,  else g_t,
        ghat_t = g'_t/n_t ema_{gamma_1}(n_t)/(sqrt(ema_{gamma_2}(n_t^2)) + epsilon),
        n_t = ||g'_t||,
        x_{t+1} = x_t - eta_t (ema_{b_1}(ghat_t)/(sqrt(ema_{b_2}(ghat_t^2)) + epsilon) + lambda x_t)

    leaf by leaf, all moving averages with bias correction. Before each step (from 1) that is a
    multiple of `reset` the last two averages begin anew.

    Args:
      learning_rate: Step size `eta`; non-negative, or an `optax.Schedule`.
      b1: Decay rate `b_1` of the momentum, in [0, 1); default .9.
      b2: Decay rate `b_2` of squares, in [0, 1); default .999 (bfloat16: `scale_by_norm`).
      eps: `epsilon`, keeps both divisors from zero; at least 1e-37, default 1e-8.
      norm_decay: Decay rate `gamma_1` of the average norm, in [0, 1); default .7.
      square_decay: Decay rate `gamma_2` of the average squared norm, in [0, 1); default .9.
      peak_decay: Decay rate `gamma_3` of the average largest entry, in [0, 1); default .999.
      reset: Steps between resets, at least 1; default 1000, the paper's. None: no reset.
      weight_decay: `lambda`, decoupled, non-negative; needs `params`. None (default): none.
      nonfinite: As for `scale_by_norm`, leaf by leaf.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, whose updates are added. Telemetry, by leaf: `max|g_t|` and `T_t`.

    Notes:
      - The first gradient is never cut. A huge spike enters threshold and mean square at once,
        whose root falls by a twentieth a step: until then the gradients after it count for little.
      - The averages of sizes leave zero gradients out, as the published code does; Adam's do not.
        The code's schedule for `b1` is not here.
      - Two reductions for each mesh axis: the largest entries first, then the norms.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.stable_spam(1.0, peak_decay=0.5)
      >>> _, state = optimizer.update(jnp.array([3.0]), optimizer.init(jnp.zeros(1)))
      >>> _, state = optimizer.update(jnp.array([6.0]), state)
      >>> print(clipax.metrics(state)["threshold"])  # the average of 3, 6, 6
      5.0

    References:
      Huang et al., "Stable-SPAM", arXiv 2502.17055v2; from v3 on norms alone: `norms.stabilize`.
    """
    _validate.learning_rate(learning_rate)
    return chain(
        scale_by_stable_spam(
            b1=b1,
            b2=b2,
            eps=eps,
            norm_decay=norm_decay,
            square_decay=square_decay,
            peak_decay=peak_decay,
            reset=reset,
            weight_decay=weight_decay,
            nonfinite=nonfinite,
            axis_name=axis_name,
        ),
        optax.scale_by_learning_rate(learning_rate),
    )
