"""The wrapper that skips steps with a gradient or a loss far larger than usual, or not finite."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from clipax import _validate
from clipax._export import exportable
from clipax._typing import Array, AxisName, Params, ScalarOrSchedule, Updates, Where
from clipax.engine import (
    Counts,
    NormRules,
    ScaleByNormState,
    Spec,
    Step,
    add_step,
    init_counts,
    make_skippable,
    make_transformation,
)
from clipax.norms import Decision, NormRule
from clipax.scopes import Scope
from clipax.thresholds import Context, Threshold, as_threshold, median
from clipax.transforms._guards import Check, make_judge, resolve_scope, silence_excluded
from clipax.transforms._loss import init_loss, judge_loss, read_loss

__all__ = ["SkipSpikesState", "skip_spikes"]

# The default rule: this many times the median of the last norms.
_SCALE, _WINDOW = 10.0, 50
_MOST = 2**31 - 1


class _State(NamedTuple):
    watch: ScaleByNormState
    counts: Array
    loss: Any
    inner: Any


@exportable
class SkipSpikesState(Counts, _State):
    """State of `skip_spikes`; every array is finite at all times.

    Attributes:
      watch: The records of the norms, and the memory of the threshold.
      counts: Counts of steps, to be read by the properties of this class.
      loss: The records of the losses, and the memory of their threshold; `()` without one.
      inner: State of the transformation inside; it knows nothing of skipped steps.
    """

    __slots__ = ()

    @property
    def consecutive_spikes(self) -> Array:
        """Return the number of spikes in a row up to now, at most `max_consecutive`.

        Steps that are not finite or zero neither count nor end the row.
        """
        return self.counts[..., -1]

    @property
    def norm(self) -> Array:
        """Return the last finite norm, or those of the blocks."""
        return self.watch.telemetry.grad_norm

    @property
    def threshold(self) -> Array:
        """Return its threshold, at most the largest float."""
        return self.watch.telemetry.threshold


def skip_spikes(
    inner: optax.GradientTransformation,
    threshold: ScalarOrSchedule | Threshold | None = None,
    *,
    loss: ScalarOrSchedule | Threshold | None = None,
    max_consecutive: int = 25,
    check: Check = "gradient",
    exclude: Where | None = None,
    scope: str | Scope = "global",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Skip steps with a gradient or a loss far larger than usual, or not finite.

    A clipped spike still pushes in the direction of a bad batch; a skipped one leaves no trace.
    Prefer it for rare, far-out spikes, around the whole optimizer, as `skip_nonfinite`.

        (u_t, s_t) = (0, s_{t-1})  if n_t is not finite, or k_t <= K and (n_t > c_t or l_t > d_t),
        else inner(g_t, s_{t-1})

    Args:
      inner: The transformation or optimizer to protect, with the state `s`.
      threshold: The largest norm `n` that is no spike, `c`, as for `norms.clip` (infinity: none
        is); schedules count all steps. Default: `thresholds.median(10, window=50)`.
      loss: The largest loss `d` likewise, best `thresholds.deviation()`, of the `l` in
        `update(..., value=l)` (or `loss=l`). None (default): it is not judged.
      max_consecutive: How many spikes in a row, `k` with this one, are skipped, `K`, at least 1;
        default 25, half the window. Then they are taken, until a step is within.
      check: As for `skip_nonfinite`.
      exclude: As for `skip_nonfinite`.
      scope: As for `scale_by_norm`; a spike of any block, by its own threshold, skips the step.
      axis_name: As for `scale_by_norm`; all devices skip together, and must be given one loss.

    Returns:
      A `GradientTransformationExtraArgs` with a `SkipSpikesState`.

    Notes:
      - A skipped step leaves `inner` alone, as in `skip_nonfinite`. Sharded: one norm's all-reduce.
        To skip a group of parameters only, put it around that branch of `optax.partition`.
      - A `Threshold` is fed all finite norms but zeros, spikes included: a permanent change of
        level stops at most `max_consecutive` steps. Non-finite norms, always skipped, and zeros,
        always taken, are not remembered; nor is a non-finite loss, which is a spike.
      - The default is this library's: it takes the first step, judges from the second on, and one
        spike does not hide the next. Trainers take `thresholds.deviation()` for norm and loss.

    Example:
      >>> import jax.numpy as jnp, optax, clipax
      >>> optimizer = clipax.skip_spikes(optax.sgd(0.5))
      >>> _, state = optimizer.update(jnp.array([1.0]), optimizer.init(jnp.ones(1)))
      >>> update, state = optimizer.update(jnp.array([1e6]), state)
      >>> print(update, state.skipped_count)
      [0.] 1

    References:
      Common practice for language models; no paper. Compare `optax.skip_large_updates`.
    """
    spec = Spec.of(resolve_scope(scope, exclude), axis_name=axis_name)
    run = make_skippable(inner, make_judge(check, spec.scope, axis_name))
    source = as_threshold(median(_SCALE, window=_WINDOW) if threshold is None else threshold)
    most = _validate.integer("max_consecutive", max_consecutive, minimum=1, maximum=None)
    # The counter is an int32.
    most = min(most, _MOST) if isinstance(most, int) else most
    rules = NormRules.of(_record_threshold(source))
    of_loss = None if loss is None else as_threshold(loss, name="loss")
    if of_loss is not None and of_loss.needs_params:
        raise ValueError(f"`loss` must not depend on the parameters, got {loss!r}.")

    def init(params: Params) -> SkipSpikesState:
        watch = spec.init(rules, params)
        losses = () if of_loss is None else init_loss(of_loss, watch.telemetry.latest.dtype)
        return SkipSpikesState(watch, init_counts(spikes=True), losses, run.init(params))

    def update(
        updates: Updates, state: SkipSpikesState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, SkipSpikesState]:
        needs_params = rules.needs_params
        step = Step.begin(spec, updates, state.watch, params, extra, needs_params=needs_params)
        norms, _ = step.norms()
        factors = step.decide(rules, norms)
        # They stay so for a tree without leaves.
        finite, spike, seen = jnp.array(True), jnp.array(False), jnp.array(False)
        for label, limit in step.thresholds().items():
            good = factors[label].finite
            finite &= jnp.all(good)
            spike |= jnp.any(good & (norms[label] > limit))
            seen |= jnp.any(good & (norms[label] > 0))
        losses = state.loss
        if of_loss is not None:
            given, count = read_loss(extra), step.context.count
            high, losses = judge_loss(of_loss, losses, given, count, finite & spike)
            spike, seen = spike | high, seen | high
        before = state.consecutive_spikes
        allowed = finite & (~spike | (before >= most))
        in_a_row = jnp.where(spike, jnp.minimum(before, most - 1) + 1, 0)
        updates, watch = step.finish(silence_excluded(step.leaves))
        taken, result, inner_state = run.update(allowed, updates, state.inner, params, extra)
        counts = add_step(
            state.counts,
            skipped=~taken,
            nonfinite=~finite | (allowed & ~taken),
            spike=finite & spike,
            spikes_in_a_row=jnp.where(finite & seen, in_a_row, before),
        )
        return result, SkipSpikesState(watch, counts, losses, inner_state)

    return make_transformation(init, update, SkipSpikesState)


def _record_threshold(source: Threshold) -> NormRule:
    """Make the rule that records a threshold and scales nothing."""

    def update(norms: Array, state: Any, context: Context) -> tuple[Decision, Any]:
        threshold, new = source.update(norms, state, context)
        largest = jnp.finfo(norms.dtype).max
        threshold = jnp.minimum(threshold, largest).astype(norms.dtype)
        return Decision(jnp.ones_like(norms), threshold), new

    return NormRule(source.init, update, source.needs_params, never_amplifies=True)
