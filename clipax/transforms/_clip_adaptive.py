"""Clips at thresholds that follow the norms seen, with the defaults of those who published them."""

from __future__ import annotations

import optax

from clipax import norms, thresholds
from clipax._typing import AxisName, NonFinite, Scalar
from clipax.scopes import Scope
from clipax.transforms._scale_by_norm import scale_by_norm

__all__ = ["clip_by_ema", "clip_by_median", "clip_by_zscore"]


def clip_by_zscore(
    z: Scalar = 2.5,
    *,
    decay: Scalar = 0.97,
    warmup: int = 25,
    cut_to: str = "adaptive",
    max_norm: Scalar | None = None,
    eps: Scalar = 1e-6,
    floor: Scalar = 0.02,
    restart: Scalar = 1e-3,
    scope: str | Scope = "global",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Clips spikes of the gradient norm, found by their z-score ("ZClip").

    Only what lies many standard deviations above a moving average of the norms is cut. Prefer it
    in long trainings whose gradient norm wanders slowly; it needs no threshold to be tuned.

    .. math::
        u = \begin{cases} g & z_t \le z \\ (\mu + (z^2/z_t)\,\sigma)\, g/n & z_t > z \end{cases}
        \qquad z_t = \frac{n - \mu}{\sigma + \epsilon}

    with :math:`z` the `z`, :math:`\epsilon` the `eps`, and :math:`\mu`, :math:`\sigma` moving mean
    and standard deviation of what was left of the norms before (`thresholds.zscore`).

    Args:
      z: The largest z-score that passes, positive and finite; default 2.5 (paper).
      decay: Decay rate of the moving averages, in [0, 1); default .97 (paper).
      warmup: From how many norms the statistics start, at least 1; default 25 (authors' code). No
        norm is tested before.
      cut_to: What a spike is cut to: `"adaptive"` (default, paper) as above, `"hard"`:
        :math:`\mu + z \sigma`, `"mean"`: :math:`\mu`.
      max_norm: A constant cap on every norm, positive, in warm-up too. None (default) for none; the
        authors' code has 1.
      eps: Added to the standard deviation in the z-score, non-negative; default 1e-6.
      floor: The least standard deviation that is believed, in units of the mean, non-negative;
        default .02. 0 is the paper's rule.
      restart: A norm below this share of the mean starts the statistics anew, with a warm-up. In
        [0, 1); default 1e-3. 0 is the paper's rule.
      scope: Which entries share a norm; `"global"` (default), `"leaf"`, `"unit"` or a scope.
      nonfinite: `"zero"` (default): a block with NaN or infinity gives a zero update;
        `"propagate"`: it gives NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`, which `clipax.metrics` reads.

    Guarantees:
      Those of `thresholds.zscore`. A block that does not spike keeps every normal number as it is;
      what is not finite leaves the statistics as they are.

    Edge cases:
      ======================== =========================================
      gradient                 update
      ======================== =========================================
      in warm-up               the gradient, or capped at `max_norm`
      zero                     zero; not remembered
      NaN or infinity          zero, counted; not remembered
      ======================== =========================================

    Sharding:
      As for `clip_by_global_norm`.

    Raises:
      TypeError: An argument is of the wrong type.
      ValueError: As for `thresholds.zscore`; `scope` or `nonfinite` unknown.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_zscore(2.0, warmup=2)
      >>> state = clip.init(jnp.zeros(1))
      >>> for norm in (3.0, 5.0, 40.0):  # mean 4, deviation 1: a z-score of 36
      ...     update, state = clip.update(jnp.array([norm]), state)
      ...     print(f"{update[0]:.3f}")
      3.000
      5.000
      4.111

    References:
      A. Kumar, L. Owen, N. R. Chowdhury, F. Güra, "ZClip: Adaptive Spike Mitigation for LLM
      Pre-Training", arXiv 2504.02507, with the authors' code.

    Differences from the paper:
      Those of `thresholds.zscore`: a floor of the standard deviation, statistics that start anew
      where they are of another scale, and zero norms are not remembered.
    """
    threshold = thresholds.zscore(
        z,
        decay=decay,
        warmup=warmup,
        cut_to=cut_to,
        max_norm=max_norm,
        eps=eps,
        floor=floor,
        restart=restart,
    )
    return scale_by_norm(
        norms.clip(threshold), scope=scope, nonfinite=nonfinite, axis_name=axis_name
    )


def clip_by_ema(
    ratio: Scalar = 1.05,
    *,
    decay: Scalar = 0.98,
    warmup: int = 100,
    absolute: Scalar = 1.0,
    floor: Scalar = 1e-3,
    scope: str | Scope = "leaf",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Clips each leaf at a multiple of the average of its own clipped norms ("AdaGC").

    A spike in one array leaves the others alone, and thresholds shrink with the gradients. Prefer
    it for large trainings in which single tensors spike.

    .. math::
        u_i = \min\Bigl(1, \frac{r \gamma_i}{n_i}\Bigr) g_i, \qquad
        \gamma_i \leftarrow \beta \gamma_i + (1 - \beta) \|u_i\|

    for each leaf :math:`g_i`, with :math:`r` the `ratio` and :math:`\beta` the `decay`; in warm-up
    :math:`u = \min(1, a/\|g\|)\, g` for all leaves together, with :math:`a` the `absolute`, and
    :math:`\gamma_i` is the smallest :math:`\|u_i\|` (`thresholds.ema`).

    Args:
      ratio: The threshold in units of the average, above 1 and finite; default 1.05 (paper).
      decay: Decay rate of the average, in [0, 1); default .98 (paper).
      warmup: For how many steps all leaves are clipped together, at least 0; default 100 (paper).
      absolute: The largest norm of all leaves together in warm-up, positive, infinity for no clip;
        default 1 (paper).
      floor: What the warm-up remembers, in [0, 1): neither a norm below this share of the smallest
        so far, nor a step that the global clip cuts down to less than this share of what it left of
        another; default 1e-3. 0: everything but zero.
      scope: Which entries share a norm; `"leaf"` (default), `"global"`, `"unit"` or a scope.
      nonfinite: `"zero"` (default): a block with NaN or infinity gives a zero update, the others
        are not touched; `"propagate"`: it gives NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`, which `clipax.metrics` reads.

    Guarantees:
      Those of `thresholds.ema`. After the warm-up a leaf within its threshold keeps every normal
      number as it is, whatever the others do.

    Edge cases:
      ======================== ===========================================
      gradient                 update
      ======================== ===========================================
      in warm-up               clipped at `absolute` as a whole
      a zero leaf              zero; not remembered for that leaf
      NaN or infinity in one   zero for that leaf, counted, not remembered
      ======================== ===========================================

    Sharding:
      Norms are all-reduced together; factors are applied leaf by leaf.

    Raises:
      TypeError: An argument is of the wrong type.
      ValueError: As for `thresholds.ema`; `scope` or `nonfinite` unknown.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_ema(1.5, warmup=1)
      >>> grads = {"a": jnp.array([0.5]), "b": jnp.array([0.5])}
      >>> _, state = clip.update(grads, clip.init(grads))  # the averages are .5 each
      >>> updates, _ = clip.update({"a": jnp.array([9.0]), "b": jnp.array([0.6])}, state)
      >>> print(updates["a"], updates["b"])
      [0.75] [0.6]

    References:
      G. Wang, S. Li, C. Chen, J. Zeng, J. Yang, D. Yu, Y. Ma, L. Shen, "AdaGC: Improving Training
      Stability for Large Language Model Pretraining", arXiv 2502.11034, Algorithm 1.

    Differences from the paper:
      The clip alone, to be put in front of any optimizer. Those of `thresholds.ema`: neither zero
      norms are remembered nor, in warm-up, what is far from ordinary.
    """
    threshold = thresholds.ema(ratio, decay=decay, warmup=warmup, absolute=absolute, floor=floor)
    return scale_by_norm(
        norms.clip(threshold), scope=scope, nonfinite=nonfinite, axis_name=axis_name
    )


def clip_by_median(
    scale: Scalar = 2.0,
    *,
    window: int = 100,
    scope: str | Scope = "global",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Clips the gradient norm at a multiple of the median of the last norms.

    Ordinary steps pass, and spikes do not move the threshold. Prefer it where spikes are frequent
    or huge; `quantile_clip_sgd` clips a given share of the steps instead.

    .. math:: u = \min(1, s\, m/n)\, g

    with :math:`s` the `scale` and :math:`m` the median of the last `window` norms, the current one
    included (`thresholds.median`).

    Args:
      scale: The threshold in units of the median, positive and finite; default 2 (authors' code).
      window: How many norms are remembered, at least 1; default 100 (authors' code).
      scope: Which entries share a norm; `"global"` (default), `"leaf"`, `"unit"` or a scope.
      nonfinite: `"zero"` (default): a block with NaN or infinity gives a zero update;
        `"propagate"`: it gives NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`, which `clipax.metrics` reads.

    Guarantees:
      Those of `thresholds.median`. A gradient within the threshold keeps every normal number as it
      is.

    Edge cases:
      ======================== ==================================================
      gradient                 update
      ======================== ==================================================
      the first                itself, for `scale >= 1`
      zero                     zero; counts as a norm of the window
      NaN or infinity          zero, counted; not remembered
      ======================== ==================================================

    Sharding:
      As for `clip_by_global_norm`.

    Raises:
      TypeError: An argument is of the wrong type.
      ValueError: As for `thresholds.median`; `scope` or `nonfinite` unknown.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_median(2.0)
      >>> state = clip.init(jnp.zeros(1))
      >>> for norm in (1.0, 1.5, 1.0, 50.0):
      ...     update, state = clip.update(jnp.array([norm]), state)
      ...     print(update)
      [1.]
      [1.5]
      [1.]
      [2.]

    References:
      Z. Yao, L. Guo, X. Yang, W. Kang, F. Kuang, Y. Yang, Z. Jin, L. Lin, D. Povey, "Zipformer: A
      Faster and Better Encoder for Automatic Speech Recognition", arXiv 2310.11230, with the
      authors' code.

    Differences from the paper:
      Those of `thresholds.median`: plain norms, and a median that follows at every step.
    """
    threshold = thresholds.median(scale, window=window)
    return scale_by_norm(
        norms.clip(threshold), scope=scope, nonfinite=nonfinite, axis_name=axis_name
    )
