"""The wrapper that skips steps with a gradient far larger than usual, or not finite."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from clipax import _validate, scopes
from clipax._typing import Array, AxisName, Params, ScalarOrSchedule, Updates
from clipax.engine._blocks import state_of
from clipax.engine._skip import skipping
from clipax.engine._step import measured_in, own_params
from clipax.measure import accumulation_dtype, block_sizes, named_leaves, replaced
from clipax.thresholds import Context, Threshold, as_threshold, median

__all__ = ["SkipSpikesState", "skip_spikes"]

# The default rule: this many times the median of the last norms.
_SCALE, _WINDOW = 10.0, 50
_MOST = 2**31 - 1
_COUNTS = ("count", "skipped_count", "spike_count", "nonfinite_count", "consecutive_count")


class SkipSpikesState(NamedTuple):
    """State of `skip_spikes`; every array is finite at all times.

    Attributes:
      count: Number of steps, skipped ones included.
      skipped_count: Number of steps skipped, for whatever reason.
      spike_count: Number of finite norms above the threshold, those included that were taken
        because `max_consecutive` were skipped before them.
      nonfinite_count: Number of steps with a norm that was not finite; all were skipped.
      consecutive_count: Number of spikes in a row up to now, at most `max_consecutive`. Steps that
        are not finite neither count nor end the row.
      is_finite: Whether the last norm was finite.
      norm: The last finite norm.
      threshold: Its threshold, at most the largest float.
      memory: What the threshold remembers.
      inner_state: State of the transformation inside; it knows nothing of skipped steps.
    """

    count: Array  # type: ignore[assignment]  # hides tuple.count, as optax's states do
    skipped_count: Array
    spike_count: Array
    nonfinite_count: Array
    consecutive_count: Array
    is_finite: Array
    norm: Array
    threshold: Array
    memory: Any
    inner_state: Any


def skip_spikes(
    inner: optax.GradientTransformation,
    threshold: ScalarOrSchedule | Threshold | None = None,
    *,
    max_consecutive: int = 25,
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Skip steps with a gradient far larger than usual, or not finite.

    A clipped spike still pushes parameters and momentum in the direction of a bad batch; a skipped
    one leaves no trace. Prefer it where spikes are rare and far out. Like `skip_nonfinite` it wraps
    the whole optimizer, in front of `optax.MultiSteps`.

    .. math::
        (u_t, s_t) = \begin{cases} (0, s_{t-1}) & n_t \text{ not finite, or } n_t > c_t
        \text{ and } k_t \le K \\ \mathrm{inner}(g_t, s_{t-1}) & \text{otherwise} \end{cases}

    with :math:`n` the global norm and :math:`k_t` the number of spikes in a row, this one included.

    Args:
      inner: The transformation or optimizer to protect, with the state :math:`s`.
      threshold: The largest norm :math:`c` that is no spike: a positive number (infinity: skip only
        non-finite gradients), an `optax.Schedule` of the step count (of all steps) or a
        `Threshold`. None (default): `thresholds.median(10, window=50)`, 10 times their median.
      max_consecutive: How many spikes in a row are skipped, :math:`K`: a concrete integer of at
        least 1; default 25, half the window. Then they are taken, until a norm is within.
      axis_name: As for `scale_by_norm`; all devices skip together.

    Returns:
      A `GradientTransformationExtraArgs` with a `SkipSpikesState`.

    Notes:
      - In a skipped step `inner` is not run (under `vmap` its result is selected away): its state
        stays bit for bit, and its schedules do not advance. Sharded: the all-reduce of one norm.
      - A `Threshold` is fed all finite norms but zeros, spikes included: a permanent change of
        level stops at most `max_consecutive` finite steps, and the default accepts it after at most
        half of its window. Fed only the norms that pass, a detector never accepts it.
      - Non-finite norms are always skipped and not remembered. A zero gradient is taken and not
        remembered, as it says nothing of the size of the others.
      - The default takes the first step whatever its size and skips spikes from the second on; it
        never skips norms that stay the same. Its scale and window are this library's choice.
      - A norm that the global clip of `thresholds.ema` would cut in warm-up counts as a spike.

    Example:
      >>> import jax.numpy as jnp, optax, clipax
      >>> optimizer = clipax.skip_spikes(optax.sgd(0.5))
      >>> state = optimizer.init(jnp.ones(1))
      >>> for size in (1.0, 1e6, 1.0):
      ...     update, state = optimizer.update(jnp.array([size]), state)
      ...     print(update, state.skipped_count)
      [-0.5] 0
      [0.] 1
      [-0.5] 1

    References:
      Common practice for language models; no paper. Compare `optax.skip_large_updates`.
    """
    steps = skipping(inner)
    source = as_threshold(median(_SCALE, window=_WINDOW) if threshold is None else threshold)
    # No larger than what counts it.
    most = min(_validate.index("max_consecutive", max_consecutive, minimum=1), _MOST)
    scope = scopes.resolve(scopes.GLOBAL)

    def init(params: Params) -> SkipSpikesState:
        leaves, _ = named_leaves(params, scope)
        dtype = accumulation_dtype([leaf.value.dtype for leaf in leaves])
        return SkipSpikesState(
            **{name: jnp.zeros((), jnp.int32) for name in _COUNTS},
            is_finite=jnp.ones((), bool),
            norm=jnp.zeros((), dtype),
            threshold=jnp.full((), jnp.finfo(dtype).max, dtype),
            memory=state_of(source, (), dtype),
            inner_state=steps.init(params),
        )

    def update(
        updates: Updates, state: SkipSpikesState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, SkipSpikesState]:
        leaves, structure = named_leaves(updates, scope)
        dtype = state.norm.dtype
        needed = source.needs_params
        own = own_params(
            leaves, params if needed or axis_name is not None else None, required=needed
        )

        def measured(values: Any, like: Any) -> Array:
            found = measured_in(dtype, replaced(leaves, values), axis_name, like)
            return found.get(scopes.GLOBAL, jnp.zeros((), dtype))

        norm = measured([leaf.value for leaf in leaves], own)
        finite = jnp.isfinite(norm)
        # What is not finite is decided on as if it were zero, and then forgotten.
        safe = jnp.where(finite, norm, 0)
        size = block_sizes(leaves, axis_name=axis_name).get(scopes.GLOBAL, 0)
        context = Context(
            state.count,
            measured(own or (), None) if needed else None,
            extra.get("example_norms"),
            total_norm=safe,
            sizes=jnp.asarray(float(size), dtype),
        )
        now, memory = source.update(safe, state.memory, context)
        now = jnp.minimum(now, jnp.finfo(dtype).max).astype(dtype)
        spike = safe > now
        before = state.consecutive_count
        taken = finite & (~spike | (before >= most))
        in_a_row = jnp.where(spike, jnp.minimum(before, most - 1) + 1, 0)

        updates = jax.tree.unflatten(structure, [leaf.value for leaf in leaves])
        result, inner_state = steps.update(taken, updates, state.inner_state, params, extra)
        return result, SkipSpikesState(
            count=optax.safe_increment(state.count),
            skipped_count=state.skipped_count + (~taken).astype(jnp.int32),
            spike_count=state.spike_count + spike.astype(jnp.int32),
            nonfinite_count=state.nonfinite_count + (~finite).astype(jnp.int32),
            consecutive_count=jnp.where(finite, in_a_row, before),
            is_finite=finite,
            norm=jnp.where(finite, norm, state.norm),
            threshold=jnp.where(finite, now, state.threshold),
            memory=jax.tree.map(
                lambda new, old: jnp.where(safe > 0, new.astype(old.dtype), old),
                memory,
                state.memory,
            ),
            inner_state=inner_state,
        )

    return optax.GradientTransformationExtraArgs(init, update)
