"""Clips by norm: identity inside a ball, never longer than its radius outside (or a floor)."""

from __future__ import annotations

import optax

from clipax import norms
from clipax._typing import AxisName, NonFinite, Scalar, ScalarOrSchedule
from clipax.scopes import Scope
from clipax.thresholds import Threshold, as_threshold
from clipax.transforms._scale_by_norm import scale_by_norm

__all__ = [
    "clip_by_global_norm",
    "clip_by_leaf_norm",
    "clip_by_regularized_norm",
    "clip_by_smooth_norm",
]


def clip_by_global_norm(
    max_norm: ScalarOrSchedule | Threshold,
    *,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Clips the norm of the whole gradient.

    The direction is kept, the length is cut at the threshold. The default choice, and a drop-in
    for `optax.clip_by_global_norm`.

    .. math:: u = \min(1, c/n)\, g, \qquad n = \|g\|

    with :math:`c` the `max_norm` and :math:`n` the Euclidean norm over all leaves.

    Args:
      max_norm: Largest norm of the update, in units of the gradient norm: a positive number
        (infinity: never clip), an `optax.Schedule` of the step count, or a `Threshold`.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives a zero update;
        `"propagate"`: it gives NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`, which `clipax.metrics` reads.

    Guarantees:
      The norm of the update is at most `max_norm * (1 + 4 eps)`, with `eps` of the leaves' dtype,
      for any number of leaves. Below the threshold every normal number is kept as it is.

    Edge cases:
      ======================== =============================
      gradient                 update
      ======================== =============================
      `n <= c`                 the gradient, bit for bit
      zero                     zero, with derivative `1`
      NaN or infinity          zero, counted
      norms up to 1e37         exact, float16 leaves included
      `c/n` below 1.2e-38      zero: the factor is no normal float
      ======================== =============================

    Sharding:
      One all-reduce for each mesh axis under `jit` (for up to 256 leaves), one `psum` inside
      `shard_map`.

    Raises:
      TypeError: `max_norm` is no number, schedule or `Threshold`.
      ValueError: `max_norm` is not positive.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_global_norm(1.0)
      >>> grads = {"w": jnp.array([3.0, 0.0]), "b": jnp.array(4.0)}
      >>> updates, state = clip.update(grads, clip.init(grads))
      >>> print(updates["w"], updates["b"], state.telemetry.grad_norm)
      [0.6 0. ] 0.8 5.0

    References:
      J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why gradient clipping accelerates training: A
      theoretical justification for adaptivity", ICLR 2020, arXiv 1905.11881.

    Differences from the paper:
      None for finite gradients; the paper's learning rate is a link of its own (`clip_sgd`).
    """
    return scale_by_norm(
        norms.clip(as_threshold(max_norm, name="max_norm")),
        nonfinite=nonfinite,
        axis_name=axis_name,
    )


def clip_by_leaf_norm(
    threshold: ScalarOrSchedule | Threshold,
    *,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Clips the norm of each leaf by itself ("layer-wise").

    A spike in one array leaves the others alone. Prefer it where layers have gradients of one
    scale; it changes the direction of the whole gradient.

    .. math:: u_i = \min(1, c/\|g_i\|)\, g_i

    for each leaf :math:`g_i`, with :math:`c` the `threshold`.

    Args:
      threshold: Largest norm of each leaf's update: a positive number (infinity: never clip), an
        `optax.Schedule` of the step count, or a `Threshold` (which remembers for each leaf).
      nonfinite: `"zero"` (default): a leaf with NaN or infinity gives a zero update, the others
        are not touched; `"propagate"`: it gives NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Guarantees:
      The norm of each leaf's update is at most `threshold * (1 + 4 eps)`. A leaf below the
      threshold keeps every normal number as it is.

    Edge cases:
      ======================== ====================================
      gradient                 update
      ======================== ====================================
      all leaves within        the gradient, bit for bit
      a leaf of size 0         the same leaf
      NaN or infinity in one   zero for that leaf, counted for it
      ======================== ====================================

    Sharding:
      Norms are all-reduced together; factors are applied leaf by leaf.

    Raises:
      TypeError: `threshold` is no number, schedule or `Threshold`.
      ValueError: `threshold` is not positive.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_leaf_norm(1.0)
      >>> grads = {"w": jnp.array([3.0, 4.0]), "b": jnp.array(0.5)}
      >>> updates, state = clip.update(grads, clip.init(grads))
      >>> print(updates["w"], updates["b"], clipax.metrics(state, top=None)["clip_factor/w"])
      [0.6 0.8] 0.5 0.2

    References:
      The layer-wise clip of S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when
      the Noise Is Heavy-Tailed", arXiv 2406.04443 (experiments).

    Differences from the paper:
      None for finite gradients.
    """
    return scale_by_norm(
        norms.clip(threshold), scope="leaf", nonfinite=nonfinite, axis_name=axis_name
    )


def clip_by_smooth_norm(
    threshold: ScalarOrSchedule | Threshold,
    *,
    response: str = "sqrt",
    scope: str | Scope = "global",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Bends the gradient's norm smoothly below a threshold.

    Like a clip far out and like the identity near zero, without a kink: prefer it where the update
    is differentiated, or where a hard cut at a badly known threshold is to be softened.

    .. math:: u = \frac{g}{\sqrt{1 + (n/c)^2}}, \quad \frac{g}{1 + n/c}, \quad
        c \tanh(n/c) \frac{g}{n}, \quad \min(1, c/n)\, g \quad \text{or} \quad
        \Big(1 - \frac{(n - c/2)^2}{2 c n}\Big) g

    for `response` `"sqrt"`, `"rational"`, `"tanh"`, `"hard"` or `"huber"`, with :math:`c` the
    `threshold`. The last holds for :math:`c/2 \le n \le 3c/2`; shorter gradients are kept as they
    are, longer ones cut to length :math:`c`: like the score of Huber's loss, with a parabola in
    place of its corner, so that the derivative is continuous.

    Args:
      threshold: The norm that updates approach for large gradients (or reach: `"hard"` and
        `"huber"`): a positive number (infinity: the identity), an `optax.Schedule` of the step
        count, or a `Threshold`.
      response: `"sqrt"` (default), `"rational"`, `"tanh"`, `"huber"`, or `"hard"`, which is
        `clip_by_global_norm`.
      scope: Which entries share a norm; `"global"` (default), `"leaf"`, `"unit"` or a scope.
      nonfinite: `"zero"` (default): a block with NaN or infinity gives a zero update;
        `"propagate"`: it gives NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`. A step counts as clipped where
      `n > c`.

    Guarantees:
      The norm of the update is at most `threshold * (1 + 4 eps)`, and at least 1/2 of the hard
      clip's. It never falls as the norm of the gradient grows. `"huber"` keeps gradients of norm up
      to `threshold / 2` as they are, bit for bit.

    Edge cases:
      ================= =========================================
      gradient          update
      ================= =========================================
      zero              zero, with derivative `1`
      `n = c`           of norm `c/sqrt(2)`, `c/2`, `c tanh(1)`, `c`, `7c/8`
      NaN or infinity   zero, counted
      ================= =========================================

    Sharding:
      As for `clip_by_global_norm`.

    Raises:
      TypeError: `threshold` is no number, schedule or `Threshold`.
      ValueError: `threshold` is not positive, `response` or `scope` unknown.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_smooth_norm(3.0)
      >>> grads = jnp.array([0.0, 4.0])
      >>> print(clip.update(grads, clip.init(grads))[0])  # 4 / sqrt(1 + 16/9)
      [0.  2.4]

    References:
      V. V. Mai, M. Johansson, "Stability and Convergence of Stochastic Gradient Clipping: Beyond
      Lipschitz Continuity and Smoothness", ICML 2021, arXiv 2102.06489.

    Differences from the paper:
      The paper analyses the hard clip; these are the smooth forms in use beside it. `"huber"` is
      this library's: the score of Huber's loss itself is the hard clip.
    """
    return scale_by_norm(
        norms.smooth(threshold, response), scope=scope, nonfinite=nonfinite, axis_name=axis_name
    )


def clip_by_regularized_norm(
    threshold: ScalarOrSchedule | Threshold,
    delta: Scalar,
    *,
    scope: str | Scope = "global",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Clips the gradient's norm, but never by more than a floor ("delta-GClip").

    With a floor the step stays proportional to the gradient far out, which gives convergence
    proofs for wide networks. It does not bound the update: prefer a plain clip against outliers.

    .. math:: u = \min(1, \max(\delta, \gamma/n))\, g

    with :math:`\gamma` the `threshold` and :math:`\delta` the smallest factor.

    Args:
      threshold: Norm at which clipping begins: a positive number (infinity: never), an
        `optax.Schedule` of the step count, or a `Threshold`.
      delta: Smallest factor, in [0, 1]; 0 is `clip_by_global_norm`, 1 the identity. The authors
        use 1e-3 with a threshold of .1.
      scope: Which entries share a norm; `"global"` (default), `"leaf"`, `"unit"` or a scope.
      nonfinite: `"zero"` (default): a block with NaN or infinity gives a zero update;
        `"propagate"`: it gives NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Guarantees:
      The factor lies in `[delta, 1]`, is exactly 1 below the threshold and exactly `delta` beyond
      `threshold / delta`.

    Edge cases:
      ================= ==============
      gradient          update
      ================= ==============
      zero              zero
      `n > gamma/delta` `delta * g`
      NaN or infinity   zero, counted
      ================= ==============

    Sharding:
      As for `clip_by_global_norm`.

    Raises:
      TypeError: An argument is not a number.
      ValueError: `threshold` is not positive, `delta` outside [0, 1], or `scope` unknown.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_regularized_norm(1.0, delta=0.5)
      >>> grads = jnp.array([0.0, 4.0])
      >>> print(clip.update(grads, clip.init(grads))[0])
      [0. 2.]

    References:
      M. Tucat, A. Mukherjee et al., "Regularized Gradient Clipping Provably Trains Wide and Deep
      Neural Networks", arXiv 2404.08624.

    Differences from the paper:
      None for finite gradients. In the authors' published ViT runs the floor never acted: norms
      were up to about 14, and the floor starts at `threshold/delta`, 100 or more there.
    """
    return scale_by_norm(
        norms.regularized(threshold, delta),
        scope=scope,
        nonfinite=nonfinite,
        axis_name=axis_name,
    )
