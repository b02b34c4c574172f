"""Clips by norm: identity inside a ball, never longer than its radius outside (or a floor)."""

from __future__ import annotations

import optax

from clipax import _validate, norms
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
    """Clip the norm of the whole gradient.

    The direction is kept, the length is cut: `scale_by_norm(norms.clip(max_norm))`. The default
    choice, and a drop-in for `optax.clip_by_global_norm`.

        u = min(1, c/n) g,  n = ||g||

    Args:
      max_norm: Largest norm `c`: a number, a schedule, or a `Threshold`, as for `norms.clip`.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Notes:
      - The norm of the update is at most `max_norm * (1 + 4 eps)`, with `eps` of the leaves' dtype,
        for any number of leaves (GPUs, TPUs: of a gradient of at least 1e-18); entries subnormal in
        it are cut off. A gradient within keeps every normal number. Norms are exact from 1.2e-38
        (GPUs, TPUs: 1e-18) to the largest float.
      - The update is zero where `c/n` is below 1.2e-38. The derivative at a zero gradient is 1.
      - Under `jit` one all-reduce for each set of mesh axes over which leaves are sharded (up to
        1,024 leaves; 256 on CPUs), one `psum` in `shard_map`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip, grads = clipax.clip_by_global_norm(1.0), jnp.array([3.0, 4.0])
      >>> updates, state = clip.update(grads, clip.init(grads))
      >>> print(updates, clipax.metrics(state)["grad_norm"])
      [0.6 0.8] 5.0

    References:
      Zhang, He, Sra, Jadbabaie, ICLR 2020, arXiv 1905.11881.
    """
    rule = norms.clip(as_threshold(max_norm, name="max_norm"))
    return scale_by_norm(rule, nonfinite=nonfinite, axis_name=axis_name)


def clip_by_leaf_norm(
    threshold: ScalarOrSchedule | Threshold,
    *,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Clip the norm of each leaf by itself ("layer-wise").

    `scale_by_norm(norms.clip(threshold), scope="leaf")`: a spike in one array leaves the others
    alone. For layers with gradients of one scale; it changes the direction of the whole gradient.

    Args:
      threshold: Largest norm of each leaf's update, as for `norms.clip`.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip, grads = clipax.clip_by_leaf_norm(1.0), [jnp.array([3.0, 4.0]), jnp.array(0.5)]
      >>> print(*clip.update(grads, clip.init(grads))[0])
      [0.6 0.8] 0.5

    References:
      Chezhegov et al., arXiv 2406.04443 (the layer-wise clip of its experiments).
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
    """Bend the gradient's norm smoothly below a threshold.

    `scale_by_norm(norms.clip(threshold, response=response))`: where the update is differentiated,
    or a hard cut at a badly known threshold is to be softened.

    Args:
      threshold: The norm that updates approach for large gradients, as for `norms.clip`.
      response: `"sqrt"` (default), `"rational"`, `"tanh"`, `"huber"` or `"hard"`.
      scope: Which entries share a norm, as for `scale_by_norm`.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip, grads = clipax.clip_by_smooth_norm(3.0), jnp.array([0.0, 4.0])
      >>> print(clip.update(grads, clip.init(grads))[0])  # 4 / sqrt(1 + 16/9)
      [0.  2.4]

    References:
      Mai, Johansson, ICML 2021, arXiv 2102.06489; more at `norms.clip`.
    """
    rule = norms.clip(threshold, response=response)
    return scale_by_norm(rule, scope=scope, nonfinite=nonfinite, axis_name=axis_name)


def clip_by_regularized_norm(
    threshold: ScalarOrSchedule | Threshold,
    delta: Scalar,
    *,
    scope: str | Scope = "global",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Clip the gradient's norm, but never by more than a floor ("delta-GClip").

    `scale_by_norm(norms.clip(threshold, floor=delta))`: proportional to the gradient far out, for
    convergence proofs for wide networks. It bounds no update: against outliers prefer a plain clip.

    Args:
      threshold: Norm at which clipping begins, as for `norms.clip`; the authors use .1.
      delta: Smallest factor, in [0, 1]; the authors' 1e-3 never acted: see `regularized_clip_sgd`.
      scope: Which entries share a norm, as for `scale_by_norm`.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip, grads = clipax.clip_by_regularized_norm(1.0, delta=0.5), jnp.array([0.0, 4.0])
      >>> print(clip.update(grads, clip.init(grads))[0])
      [0. 2.]

    References:
      Tucat, Mukherjee et al., arXiv 2404.08624; more at `norms.clip`.
    """
    _validate.within("delta", delta, 0, 1)
    rule = norms.clip(threshold, floor=delta)
    return scale_by_norm(rule, scope=scope, nonfinite=nonfinite, axis_name=axis_name)
