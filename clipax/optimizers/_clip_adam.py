"""Clipped AdaGrad and Adam with a scale for every coordinate, with and without delay.

S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is Heavy-Tailed",
arXiv 2406.04443.
"""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jax import lax

from clipax import _validate, norms
from clipax._statistics._moving import Scale, adagrad, adam
from clipax._typing import Array, AxisName, NonFinite, Scalar, ScalarOrSchedule
from clipax.engine import (
    EntryContext,
    EntryRule,
    Memory,
    NormRules,
    Spec,
    add_decay,
    average,
    chain,
    keep,
    lift,
    scales_like,
    wide_zeros_like,
)
from clipax.thresholds import Threshold
from clipax.transforms._clip_by_value import as_limit, cut_entries

__all__ = ["clip_adagrad", "clip_adam"]


def scale_by_clipped_entries(
    threshold: ScalarOrSchedule | Threshold,
    scale: Scale,
    *,
    clip: str = "global",
    b1: Scalar | None = None,
    delay: int | None = None,
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Divide the (averaged) clipped gradient by a scale for each entry, then add the decay."""
    _validate.one_of("clip", clip, ("global", "leaf", "coordinate"))
    steps = _validate.optional_index("delay", delay)
    if b1 is not None:
        _validate.open_unit("b1", b1)
    if weight_decay is not None:
        _validate.non_negative("weight_decay", weight_decay)
    limit = None
    if clip == "coordinate":
        if isinstance(threshold, Threshold):
            raise TypeError(
                "`threshold` must be a number or a schedule for clip='coordinate', which measures "
                f"no norm, got {threshold!r}."
            )
        if not callable(threshold):
            _validate.threshold("threshold", threshold)
        limit = threshold

    def init(leaf: Array) -> Memory:
        memory = {} if b1 is None else {"momentum": wide_zeros_like(leaf)}
        scales = scales_like(leaf, scale.b_init)
        if steps < 2:
            return memory | {"scales": scales}
        # The scales of the last steps; the newest is in the slot before `position`.
        ring = jnp.broadcast_to(scales, (steps + 1, *scales.shape))
        return memory | {"scales": ring, "position": jnp.zeros((), jnp.int32)}

    def update(gradient: Array, memory: Memory, context: EntryContext) -> tuple[Array, Memory]:
        clipped = gradient * context.gradient_factor
        if limit is not None:
            now = limit(context.count) if callable(limit) else limit
            clipped = cut_entries(clipped, as_limit(now, context.gradient_factor.dtype))
        new: Memory = {}
        value = clipped
        if b1 is not None:
            new["momentum"] = average(clipped, memory["momentum"], b1, context)
            value = new["momentum"].astype(clipped.dtype)
        scales, divisor = _accumulate(scale, jnp.abs(clipped), memory, context, steps)
        result = value / divisor.astype(value.dtype)
        return add_decay(result, context, weight_decay), new | scales

    rule = EntryRule(init, update, weight_decay is not None)
    before = None if clip == "coordinate" else norms.clip(threshold)
    scope = "leaf" if clip == "leaf" else "global"
    return lift(Spec.of(scope, nonfinite, axis_name), NormRules.of(before), rule)


def _accumulate(
    scale: Scale, sizes: Array, memory: Memory, context: EntryContext, delay: int
) -> tuple[Memory, Array]:
    """Accumulate sizes: the scales to remember, and those to divide by."""
    held = memory["scales"]
    if delay < 2:
        new = keep(scale.accumulate(held.astype(sizes.dtype), sizes, context.count), held, context)
        return {"scales": new}, held if delay else new
    slots, position = delay + 1, memory["position"]
    newest = (position - 1) % slots
    last = lax.dynamic_index_in_dim(held, newest, 0, keepdims=False)
    new = keep(scale.accumulate(last.astype(sizes.dtype), sizes, context.count), last, context)
    # A step that does not count writes the newest values again. The write comes before the read,
    # into a slot to spare: XLA then updates the buffer in place, in a jitted loop and in a scan.
    counts = jnp.all(context.finite)
    place = jnp.where(counts, position, newest)
    following = jnp.where(counts, (position + 1) % slots, position)
    ring = lax.dynamic_update_index_in_dim(held, new, place, 0)
    divisor = lax.dynamic_index_in_dim(ring, following, 0, keepdims=False)
    return {"scales": ring, "position": following}, divisor


def clip_adagrad(
    learning_rate: ScalarOrSchedule,
    threshold: ScalarOrSchedule | Threshold,
    *,
    b_init: Scalar = 1e-2,
    delay: int | None = None,
    clip: str = "global",
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Run AdaGrad on the clipped gradient (Clip-AdaGrad; with a delay Clip-AdaGradD).

    One outlier ruins the step sizes of AdaGrad for good, in every entry that it touches; the clip
    bounds its effect. Prefer it to `clip_adagrad_norm` for sparse or badly scaled gradients.

        ghat_t = clip(g_t, c),  b_t^2 = b_{t-1}^2 + ghat_t^2,
        x_{t+1} = x_t - gamma_t (ghat_t/b_{t-d} + lambda x_t)

    Args:
      learning_rate: Step size `gamma`, non-negative, or an `optax.Schedule`.
      threshold: Largest norm (or entry) `c`, as for `norms.clip`; for entries no `Threshold`.
      b_init: First scale `b_{-1}`, in place of an epsilon; at least 1e-37, default .01.
      delay: Steps `d` that the divisor lags behind, an integer; None (default) or 0: none.
      clip: Clips the norm of the whole gradient (`"global"`, default, as in the theory), of each
        leaf (`"leaf"`) or every entry by itself (`"coordinate"`).
      weight_decay: `lambda`, as in AdamW, non-negative; needs `params`; None (default).
      nonfinite: As for `scale_by_norm`; by leaf for `clip="leaf"`.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, whose updates are added to the parameters.

    Notes:
      - The first `delay` steps divide by `b_init`. The paper's delay is 1; `d >= 2`, an option,
        keeps `d` further copies of the scales. One more read of the gradient than AdaGrad's.
      - With `clip="coordinate"` a gradient with an infinite entry, or of an infinite norm, is left
        out, not clipped. Telemetry then shows the norm, but neither threshold nor clipped entries.
      - The authors' code also delays the gradient and adds an epsilon; this follows the paper.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.clip_adagrad(1.0, threshold=4.0, b_init=3.0)
      >>> print(optimizer.update(jnp.array([9.0]), optimizer.init(jnp.zeros(1)))[0])  # 4 over 5
      [-0.8]

    References:
      Chezhegov et al., arXiv 2406.04443, the coordinate-wise form of Algorithm 1.
    """
    return _clip_adam(
        learning_rate,
        threshold,
        adagrad(b_init),
        None,
        delay,
        clip,
        weight_decay,
        nonfinite,
        axis_name,
    )


def clip_adam(
    learning_rate: ScalarOrSchedule,
    threshold: ScalarOrSchedule | Threshold,
    *,
    b_init: Scalar = 1e-3,
    b1: Scalar | None = 0.9,
    b2: Scalar = 0.999,
    delay: int | None = None,
    clip: str = "global",
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Run Adam on the clipped gradient (Clip-Adam; with a delay Clip-AdamD).

    Adam for heavy-tailed gradients, as when language models are fine-tuned: the clip bounds what an
    outlier does to momentum and scales. Prefer `clip_adam_norm` where memory is short.

        ghat_t = clip(g_t, c),  m_t = b_1 m_{t-1} + (1 - b_1) ghat_t,
        b_t^2 = b_2 b_{t-1}^2 + (1 - b_2) ghat_t^2,
        x_{t+1} = x_t - gamma_t (m_t/b_{t-d} + lambda x_t)

    Args:
      learning_rate: `gamma`, as for `clip_adagrad`.
      threshold: `c`, as for `clip_adagrad` (infinity: Adam without bias correction); on CoLA and
        RTE the authors' best are 1 and 2 leaf by leaf, .02 and .005 for entries.
      b_init: `b_{-1}`, as for `clip_adagrad`, but it decays; default .001.
      b1: Decay rate `b_1` of the momentum, in [0, 1); default .9, the paper's; or None.
      b2: Decay rate `b_2` of squares, in [0, 1); default .999 (bfloat16: `scale_by_norm`).
      delay: `d`, as for `clip_adagrad`; after many zeros a delayed step is long.
      clip: As for `clip_adagrad`, with the notes there.
      weight_decay: `lambda`, as for `clip_adagrad`.
      nonfinite: As for `scale_by_norm`; by leaf for `clip="leaf"`.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, as `clip_adagrad`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.clip_adam(1.0, threshold=5.0, b_init=5.0, b1=0.5)
      >>> print(optimizer.update(jnp.array([9.0]), optimizer.init(jnp.zeros(1)))[0])  # 2.5 over 5
      [-0.5]

    References:
      Chezhegov et al., arXiv 2406.04443, the coordinate-wise form of Algorithm 2.
    """
    return _clip_adam(
        learning_rate,
        threshold,
        adam(b_init, b2),
        b1,
        delay,
        clip,
        weight_decay,
        nonfinite,
        axis_name,
    )


def _clip_adam(
    learning_rate: ScalarOrSchedule,
    threshold: ScalarOrSchedule | Threshold,
    scale: Scale,
    b1: Scalar | None,
    delay: int | None,
    clip: str,
    weight_decay: Scalar | None,
    nonfinite: NonFinite,
    axis_name: AxisName,
) -> optax.GradientTransformationExtraArgs:
    """Chain the scaling by entries with the learning rate."""
    _validate.learning_rate(learning_rate)
    return chain(
        scale_by_clipped_entries(
            threshold,
            scale,
            clip=clip,
            b1=b1,
            delay=delay,
            weight_decay=weight_decay,
            nonfinite=nonfinite,
            axis_name=axis_name,
        ),
        optax.scale_by_learning_rate(learning_rate),
    )
