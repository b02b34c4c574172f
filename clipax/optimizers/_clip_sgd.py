"""Clipped SGD and its variants: normalised, with a floor, at a quantile, at the best criterion.

J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why gradient clipping accelerates training: A
theoretical justification for adaptivity", ICLR 2020, arXiv 1905.11881.
"""

from __future__ import annotations

import optax

from clipax import _validate, norms, thresholds
from clipax._typing import AxisName, NonFinite, Scalar, ScalarOrSchedule
from clipax.engine import chain
from clipax.scopes import Scope
from clipax.thresholds import Threshold
from clipax.transforms import clip_by_global_norm, normalize_by_global_norm, scale_by_norm

__all__ = ["clip_sgd", "max_ccc_sgd", "normalized_sgd", "quantile_clip_sgd", "regularized_clip_sgd"]


def clip_sgd(
    learning_rate: ScalarOrSchedule,
    threshold: ScalarOrSchedule | Threshold,
    *,
    scope: str | Scope = "global",
    offset: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Descend along the clipped gradient (clipped SGD).

    The step is bounded where the gradient explodes, so the learning rate may be larger, by any
    factor, than the largest at which gradient descent is stable. Prefer it under heavy tails.

        x_{t+1} = x_t - eta_t min(1, c/(||g_t|| + tau)) g_t

    Args:
      learning_rate: Step size `eta`, non-negative, or an `optax.Schedule`.
      threshold: Largest norm `c`, as for `norms.clip` (infinity: SGD itself); in theory
        `min(10 L0, L0/L1)` with a rate of `1/(10 L0)` (`clipax.theory.clip_sgd_smooth`).
      scope: Which entries share a norm, as for `scale_by_norm`.
      offset: `tau`, the bound of the noise in `theory.clip_sgd_bounded_noise`, or None.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, whose updates are added to the parameters: at most `eta c` a block.

    Notes:
      `threshold` is the paper's `gamma`. Its stochastic theorem prints `1/(16 eta L1 (n + tau))`,
      where `eta` does not fit the units; without it, `threshold = 1/(16 L1 eta)`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.clip_sgd(learning_rate=0.5, threshold=1.0)
      >>> print(optimizer.update(jnp.array([1e5]), optimizer.init(jnp.zeros(1)))[0])
      [-0.5]

    References:
      Zhang et al., arXiv 1905.11881, Theorem 3; Koloskova et al., ICML 2023, arXiv 2305.01588.
    """
    _validate.learning_rate(learning_rate)
    return chain(
        scale_by_norm(
            norms.clip(threshold, offset=offset),
            scope=scope,
            nonfinite=nonfinite,
            axis_name=axis_name,
        ),
        optax.scale_by_learning_rate(learning_rate),
    )


def normalized_sgd(
    learning_rate: ScalarOrSchedule,
    eps: Scalar,
    *,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Descend by a fixed length along the gradient (normalised SGD).

    No step is longer than the rate, so a schedule decides how far the parameters move. With
    `eps = c` and the rate `eta c` a step is 1/2 to 1 times that of `clip_sgd(eta, c)`.

        x_{t+1} = x_t - eta_t/(||g_t|| + epsilon) g_t

    Args:
      learning_rate: Largest length `eta` of a step, non-negative, or an `optax.Schedule`.
      eps: `epsilon >= 0`, in the paper (its beta) the threshold; 0: no step below 1e-19.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, as `clip_sgd`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.normalized_sgd(learning_rate=0.5, eps=0.0)
      >>> print(optimizer.update(jnp.array([3.0, 4.0]), optimizer.init(jnp.zeros(2)))[0])
      [-0.3 -0.4]

    References:
      As `clip_sgd`: J. Zhang et al., arXiv 1905.11881.
    """
    _validate.learning_rate(learning_rate)
    return chain(
        normalize_by_global_norm(eps, nonfinite=nonfinite, axis_name=axis_name),
        optax.scale_by_learning_rate(learning_rate),
    )


def regularized_clip_sgd(
    learning_rate: ScalarOrSchedule,
    threshold: ScalarOrSchedule | Threshold,
    delta: Scalar,
    *,
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Descend along the gradient, clipped but never scaled by less than a floor.

    The floor gives linear convergence for wide networks under a Polyak-Lojasiewicz condition, which
    plain clipping lacks. It does not bound the step: prefer `clip_sgd` against outliers.

        x_{t+1} = x_t - eta_t min(1, max(delta, gamma/||g_t||)) (g_t + lambda x_t)

    Args:
      learning_rate: Step size `eta`, as for `clip_sgd`.
      threshold: The norm `gamma` above which it clips, as for `clip_sgd`; the authors: .1.
      delta: Smallest factor `delta`, in [0, 1]; the authors use 1e-3. 0: `clip_sgd`, 1: SGD.
      weight_decay: `lambda`, not part of the norm; non-negative, None (default) for none.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, as `clip_sgd`.

    Notes:
      - On `||Aw - y||^2/2` with a rate of at most `1/beta` every step contracts the loss by
        `1 - eta delta mu`; beta and mu are the largest and the smallest eigenvalue of `A A'`.
      - In the authors' published ViT runs norms were up to about 14; the floor, which begins at
        `threshold/delta`, 100 or more there, never acted.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.regularized_clip_sgd(1.0, threshold=1.0, delta=0.5)
      >>> print(optimizer.update(jnp.array([8.0]), optimizer.init(jnp.zeros(1)))[0])
      [-4.]

    References:
      Tucat, Mukherjee et al., arXiv 2404.08624.
    """
    _validate.learning_rate(learning_rate)
    _validate.within("delta", delta, 0, 1)
    return chain(
        scale_by_norm(
            norms.clip(threshold, floor=delta),
            weight_decay=weight_decay,
            nonfinite=nonfinite,
            axis_name=axis_name,
        ),
        optax.scale_by_learning_rate(learning_rate),
    )


def quantile_clip_sgd(
    learning_rate: ScalarOrSchedule,
    quantile: ScalarOrSchedule,
    *,
    window: int = _validate.fixed_size(100),
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Descend along the gradient, clipped at a quantile of the last gradient norms.

    The share of clipped steps is given in place of a threshold, and holds at every scale. Prefer it
    to `clip_sgd` where gradients shrink by orders of magnitude, and under outliers of any size.

        x_{t+1} = x_t - eta_t min(1, c_t/||g_t||) g_t

    Args:
      learning_rate: Step size `eta`, as for `clip_sgd`.
      quantile: That of `c`, as for `thresholds.quantile`; a fixed one leaves a bias.
      window: How many norms are remembered, a concrete integer of at least 1; default 100.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, as `clip_sgd`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.quantile_clip_sgd(1.0, quantile=0.5)
      >>> _, state = optimizer.update(jnp.array([2.0]), optimizer.init(jnp.zeros(1)))  # not clipped
      >>> print(optimizer.update(jnp.array([100.0]), state)[0])
      [-2.]

    References:
      Merad, Gaiffas, arXiv 2309.17316 (averaged parameters); Shulgin, Richtarik, arXiv 2412.19916.
    """
    _validate.learning_rate(learning_rate)
    return chain(
        clip_by_global_norm(
            thresholds.quantile(quantile, window=window),
            nonfinite=nonfinite,
            axis_name=axis_name,
        ),
        optax.scale_by_learning_rate(learning_rate),
    )


def max_ccc_sgd(
    learning_rate: ScalarOrSchedule,
    *,
    window: int = _validate.fixed_size(500),
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Descend along the gradient, clipped where the clipping comparison criterion is largest.

    `norms.max_ccc_clip` on SGD: the rate makes up for the part that is cut off, and nothing is
    clipped where that would not help. Prefer it where no threshold is known.

        x_{t+1} = x_t - eta_t/F_t(c_t) min(1, c_t/||g_t||) g_t

    with the threshold `c` of `thresholds.max_ccc(window=window)` and `F` the share of the last
    norms within it, at least a tenth: no step is longer than ten times that of SGD.

    Args:
      learning_rate: Step size `eta` of unclipped gradient descent, as for `clip_sgd`.
      window: How many norms are remembered, a concrete integer of at least 20; default 500.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, as `clip_sgd`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.max_ccc_sgd(1.0, window=20)
      >>> state = optimizer.init(jnp.zeros(1))
      >>> for gradient in [1.0] * 19 + [100.0]:  # the first ten steps are not clipped
      ...     update, state = optimizer.update(jnp.array([gradient]), state)
      >>> print(update)  # clipped to 1, and 20/19 for 19 of 20 norms within
      [-1.0526316]

    References:
      Marshall et al., arXiv 2406.11733, whose criterion is not empirical: see `thresholds.max_ccc`.
    """
    _validate.learning_rate(learning_rate)
    return chain(
        scale_by_norm(norms.max_ccc_clip(window=window), nonfinite=nonfinite, axis_name=axis_name),
        optax.scale_by_learning_rate(learning_rate),
    )
