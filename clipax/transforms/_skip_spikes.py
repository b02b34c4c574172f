"""The wrapper that skips steps with a gradient far larger than usual, or not finite."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from clipax import _validate
from clipax._typing import Array, AxisName, Params, ScalarOrSchedule, Updates
from clipax.engine import NormRules, ScaleByNormState, Spec, Step, make_skippable
from clipax.norms import Decision, NormRule
from clipax.thresholds import Context, Threshold, as_threshold, median

__all__ = ["SkipSpikesState", "skip_spikes"]

# The default rule: this many times the median of the last norms.
_SCALE, _WINDOW = 10.0, 50
_INT32_MAX = 2**31 - 1


class SkipSpikesState(NamedTuple):
    """State of `skip_spikes`; every array is finite at all times.

    Attributes:
      watch: The records of the norm, and the memory of the threshold.
      skipped_count: Number of steps skipped, for whatever reason.
      consecutive_count: Number of spikes in a row up to now, at most `max_consecutive`. Steps that
        are not finite or zero neither count nor end the row.
      inner: State of the transformation inside; it knows nothing of skipped steps.
    """

    watch: ScaleByNormState
    skipped_count: Array
    consecutive_count: Array
    inner: Any

    @property
    def steps(self) -> Array:
        """Return the number of steps, skipped ones included."""
        return self.watch.telemetry.steps

    @property
    def spike_count(self) -> Array:
        """Return the number of finite norms above the threshold.

        Those are included that were taken because `max_consecutive` were skipped before them.
        """
        return self.watch.telemetry.clipped_count

    @property
    def nonfinite_count(self) -> Array:
        """Return the number of steps with a norm that was not finite; all were skipped."""
        return self.watch.telemetry.nonfinite_count

    @property
    def is_finite(self) -> Array:
        """Tell whether the last norm was finite."""
        return self.watch.telemetry.is_finite

    @property
    def norm(self) -> Array:
        """Return the last finite norm."""
        return self.watch.telemetry.grad_norm

    @property
    def threshold(self) -> Array:
        """Return its threshold, at most the largest float."""
        return self.watch.telemetry.threshold


def skip_spikes(
    inner: optax.GradientTransformation,
    threshold: ScalarOrSchedule | Threshold | None = None,
    *,
    max_consecutive: int = 25,
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Skip steps with a gradient far larger than usual, or not finite.

    A clipped spike still pushes in the direction of a bad batch; a skipped one leaves no trace.
    Prefer it for rare, far-out spikes, around the whole optimizer, as `skip_nonfinite`.

    .. math:: (u_t, s_t) = \begin{cases} (0, s_{t-1}) & n_t \text{ not finite, or } n_t > c_t
        \text{ and } k_t \le K \\ \mathrm{inner}(g_t, s_{t-1}) & \text{otherwise} \end{cases}

    with :math:`n` the global norm and :math:`k_t` the number of spikes in a row, this one included.

    Args:
      inner: The transformation or optimizer to protect, with the state :math:`s`.
      threshold: The largest norm :math:`c` that is no spike, as for `norms.clip` (infinity: only
        the non-finite are); schedules count all steps. Default: `thresholds.median(10, window=50)`.
      max_consecutive: How many spikes in a row are skipped, :math:`K`, at least 1; default 25, half
        the window. Then they are taken, until a norm is within.
      axis_name: As for `scale_by_norm`; all devices skip together.

    Returns:
      A `GradientTransformationExtraArgs` with a `SkipSpikesState`.

    Notes:
      - A skipped step leaves `inner` alone, as in `skip_nonfinite`. Sharded: one norm's all-reduce.
      - A `Threshold` is fed all finite norms but zeros, spikes included: a permanent change of
        level stops at most `max_consecutive` finite steps, and the default accepts it after at most
        half of its window. Fed only the norms that pass, a detector never accepts it.
      - Neither non-finite norms, always skipped, nor zeros, always taken, are remembered.
      - The default takes the first step whatever its size and skips spikes from the second on; it
        never skips norms that stay the same. Its scale and window are this library's choice.
      - A norm that the global clip of `thresholds.ema` would cut in warm-up counts as a spike.

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
    run = make_skippable(inner)
    source = as_threshold(median(_SCALE, window=_WINDOW) if threshold is None else threshold)
    # The counter is an int32.
    most = min(_validate.index("max_consecutive", max_consecutive, minimum=1), _INT32_MAX)
    spec = Spec.of(axis_name=axis_name)
    rules = NormRules.of(_record_threshold(source))

    def init(params: Params) -> SkipSpikesState:
        return SkipSpikesState(
            watch=spec.init(rules, params),
            skipped_count=jnp.zeros((), jnp.int32),
            consecutive_count=jnp.zeros((), jnp.int32),
            inner=run.init(params),
        )

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
            finite = factors[label].finite
            spike = finite & (norms[label] > limit)
            seen = finite & (norms[label] > 0)
        before = state.consecutive_count
        taken = finite & (~spike | (before >= most))
        in_a_row = jnp.where(spike, jnp.minimum(before, most - 1) + 1, 0)
        updates, watch = step.finish([leaf.value for leaf in step.leaves])
        result, inner_state = run.update(taken, updates, state.inner, params, extra)
        return result, SkipSpikesState(
            watch=watch,
            skipped_count=state.skipped_count + (~taken).astype(jnp.int32),
            consecutive_count=jnp.where(seen, in_a_row, before),
            inner=inner_state,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _record_threshold(source: Threshold) -> NormRule:
    """Make the rule that records a threshold and scales nothing."""

    def update(norms: Array, state: Any, context: Context) -> tuple[Decision, Any]:
        threshold, new = source.update(norms, state, context)
        largest = jnp.finfo(norms.dtype).max
        threshold = jnp.minimum(threshold, largest).astype(norms.dtype)
        return Decision(jnp.ones_like(norms), threshold), new

    return NormRule(source.init, update, source.needs_params, never_amplifies=True)
