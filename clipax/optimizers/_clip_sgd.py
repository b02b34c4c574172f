"""Clipped and normalised gradient descent.

J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why gradient clipping accelerates training: A theoretical
justification for adaptivity", ICLR 2020, arXiv 1905.11881.
"""

from __future__ import annotations

import optax

from clipax import _validate, norms, thresholds
from clipax._typing import AxisName, NonFinite, Scalar, ScalarOrSchedule
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
    r"""Stochastic gradient descent on the clipped gradient.

    A bounded step wherever the gradient explodes, plain gradient descent elsewhere: it may take
    learning rates that are larger, by any factor, than those under which gradient descent is
    stable. The first choice under heavy-tailed noise.

    .. math:: x_{t+1} = x_t - \eta_t \min\left(1, \frac{c}{\|g_t\| + \tau}\right) g_t

    with :math:`\eta` the `learning_rate`, :math:`c` the `threshold` on the gradient norm and
    :math:`\tau` the `offset`, which is zero in general.

    Args:
      learning_rate: Step size, non-negative, or an `optax.Schedule` of the 0-based step count.
      threshold: Largest norm of the clipped gradient: a positive number (infinity: plain SGD), an
        `optax.Schedule`, or a `Threshold`. The paper's theorem has `min(10 L0, L0/L1)` with a rate
        of `1/(10 L0)` (`clipax.theory.clip_sgd_smooth`).
      scope: Which entries share a norm; `"global"` (default, the paper's), `"leaf"`, `"unit"` or a
        scope of `clipax.scopes`.
      offset: Added to the norm before it is compared, non-negative: the bound of the noise in the
        paper's stochastic theorem (`clipax.theory.clip_sgd_bounded_noise`). None (default): none.
      nonfinite: `"zero"` (default): a block with NaN or infinity is left out of the step;
        `"propagate"`: its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added.

    Guarantees:
      No step is longer than `learning_rate * threshold` (to rounding), for other scopes no block's
      step. An infinite threshold is plain SGD, bit for bit.

    Edge cases:
      ================= =====================
      gradient          step
      ================= =====================
      zero              none
      NaN or infinity   none, counted
      ================= =====================

    Sharding:
      One all-reduce for each mesh axis under `jit` (for up to 256 leaves), one `psum` inside
      `shard_map`.

    Raises:
      TypeError: An argument is of the wrong type.
      ValueError: `learning_rate` or `offset` negative, `threshold` not positive, `scope` unknown.

    Example:
      >>> import jax.numpy as jnp, optax, clipax
      >>> optimizer = clipax.clip_sgd(learning_rate=0.5, threshold=1.0)
      >>> params = jnp.array([30.0])
      >>> update, _ = optimizer.update(4 * params**3, optimizer.init(params), params)
      >>> print(optax.apply_updates(params, update))
      [29.5]

    References:
      J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why gradient clipping accelerates training: A
      theoretical justification for adaptivity", ICLR 2020, arXiv 1905.11881, Theorem 3.
      A. Koloskova, H. Hendrikx, S. U. Stich, "Revisiting Gradient Clipping: Stochastic bias and
      tight convergence guarantees", ICML 2023, arXiv 2305.01588.

    Differences from the paper:
      The paper writes the step as `min(eta, gamma eta/n) g`; its `gamma` is our `threshold`. Its
      stochastic theorem prints `min(eta, 1/(16 eta L1 (n + tau)))`; the `eta` within does not fit
      the units, and is left out here: `threshold = 1/(16 L1 eta)`.
    """
    _validate.learning_rate(learning_rate)
    return optax.chain(
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
    r"""Stochastic gradient descent on the normalised gradient.

    Every step has (almost) the length of the learning rate, so a schedule decides how far the
    iterates move. Clipped SGD takes steps between once and twice as long at matched constants.

    .. math:: x_{t+1} = x_t - \frac{\eta_t}{\|g_t\| + \epsilon}\, g_t

    with :math:`\eta` the `learning_rate` and :math:`\epsilon` the `eps`.

    Args:
      learning_rate: Largest length of a step, non-negative, or an `optax.Schedule` of the count.
      eps: What keeps small gradients small, in units of the gradient norm; non-negative. The
        paper's beta, which it sets to the clipping threshold.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives no step; `"propagate"`:
        its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added.

    Guarantees:
      No step is longer than `learning_rate` (to rounding). With `eps = c` and the rate `eta c` the
      step is between 1/2 and 1 times that of `clip_sgd(eta, c)`.

    Edge cases:
      ================= =======================
      gradient          step
      ================= =======================
      zero              none, for `eps = 0` too
      `n` below 1e-19   as for zero, with `eps = 0`
      NaN or infinity   none, counted
      ================= =======================

    Sharding:
      As for `clip_sgd`.

    Raises:
      TypeError: An argument is not a number (or schedule).
      ValueError: `learning_rate` or `eps` is negative.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.normalized_sgd(learning_rate=0.5, eps=0.0)
      >>> params = jnp.array([3.0, 4.0])
      >>> print(optimizer.update(params, optimizer.init(params), params)[0])
      [-0.3 -0.4]

    References:
      J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why gradient clipping accelerates training: A
      theoretical justification for adaptivity", ICLR 2020, arXiv 1905.11881.

    Differences from the paper:
      `eps = 0` is allowed: a zero gradient gives no step.
    """
    _validate.learning_rate(learning_rate)
    return optax.chain(
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
    r"""Stochastic gradient descent with a clip that never scales by less than a floor.

    The floor gives linear convergence for wide networks under a Polyak-Lojasiewicz condition, which
    plain clipping lacks. It does not bound the step: prefer `clip_sgd` against outliers.

    .. math:: x_{t+1} = x_t - h_t (g_t + \lambda x_t), \qquad
        h_t = \eta_t \min(1, \max(\delta, \gamma/\|g_t\|))

    with :math:`\eta` the `learning_rate`, :math:`\gamma` the `threshold` and :math:`\lambda` the
    `weight_decay`.

    Args:
      learning_rate: Step size, non-negative, or an `optax.Schedule` of the 0-based step count.
      threshold: Gradient norm at which clipping begins: a positive number, an `optax.Schedule` or
        a `Threshold`. The authors use .1.
      delta: Smallest factor, in [0, 1]; the authors use 1e-3. 0 is `clip_sgd`, 1 plain SGD.
      weight_decay: Coefficient of the parameters, non-negative; None (default) for none. It enters
        after the norm was measured and is scaled by the same step size.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives no step; `"propagate"`:
        its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added.

    Guarantees:
      `delta = 0` is `clip_sgd` and `delta = 1` is SGD, exactly. On `||Aw - y||^2/2` with a rate of
      at most `1/beta` every step contracts the loss by `1 - eta delta mu`, where beta and mu are
      the largest and smallest eigenvalue of `A A'`.

    Edge cases:
      ================= =========================
      gradient          step
      ================= =========================
      zero              of the weight decay alone
      NaN or infinity   none, counted
      ================= =========================

    Sharding:
      As for `clip_sgd`.

    Raises:
      TypeError: An argument is of the wrong type.
      ValueError: `learning_rate` or `weight_decay` negative, `threshold` not positive, `delta`
        outside [0, 1]; when used: no `params` where there is weight decay.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.regularized_clip_sgd(1.0, threshold=1.0, delta=0.5)
      >>> params = jnp.array([0.0, 8.0])
      >>> print(optimizer.update(params, optimizer.init(params), params)[0])
      [-0. -4.]

    References:
      M. Tucat, A. Mukherjee et al., "Regularized Gradient Clipping Provably Trains Wide and Deep
      Neural Networks", arXiv 2404.08624.

    Differences from the paper:
      None for finite gradients. In the authors' published ViT runs the floor never acted: norms
      were up to about 14, and the floor starts at `threshold/delta`, 100 or more there.
    """
    _validate.learning_rate(learning_rate)
    return optax.chain(
        scale_by_norm(
            norms.regularized(threshold, delta),
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
    window: int = 100,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Stochastic gradient descent, clipped at a quantile of the last gradient norms.

    No threshold to tune: the share of clipped steps is given instead, and holds at every scale of
    the gradient. Prefer it to `clip_sgd` where gradients shrink by orders of magnitude during the
    run, and under noise with outliers of any size.

    .. math:: x_{t+1} = x_t - \eta_t \min(1, c_t/\|g_t\|)\, g_t

    with :math:`\eta` the `learning_rate` and :math:`c_t` the order statistic of rank
    :math:`\lceil p S \rceil` (from 1) of the last :math:`S` norms, the current one included, of
    those seen so far when they are fewer; :math:`p` is the `quantile` and :math:`S` the `window`.

    Args:
      learning_rate: Step size, non-negative, or an `optax.Schedule` of the 0-based step count.
      quantile: Which quantile, in (0, 1), or an `optax.Schedule`, for example
        `clipax.thresholds.quantile_schedule`. A fixed one keeps a bias; quantiles that increase
        to 1, with decreasing rates, remove it.
      window: How many norms are remembered, at least 1; default 100.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives no step and is not
        remembered; `"propagate"`: its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added.

    Guarantees:
      The threshold is one of the last norms, exactly; the first step is not clipped. Twice
      `window` numbers are kept.

    Edge cases:
      ================= ==========================================
      gradient          step
      ================= ==========================================
      zero              none; remembered as a norm of 0
      NaN or infinity   none, counted and not remembered
      ================= ==========================================

    Sharding:
      As for `clip_sgd`.

    Raises:
      TypeError: An argument is of the wrong type; `window` must be a concrete integer
        (`static_args` of `optax.inject_hyperparams`).
      ValueError: `learning_rate` negative, `quantile` outside (0, 1), `window` below 1.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.quantile_clip_sgd(1.0, quantile=0.5)
      >>> params = jnp.zeros(1)
      >>> state = optimizer.init(params)
      >>> for gradient in (2.0, 100.0):
      ...     update, state = optimizer.update(jnp.array([gradient]), state, params)
      ...     print(update)
      [-2.]
      [-2.]

    References:
      I. Merad, S. Gaiffas, "Robust Stochastic Optimization via Gradient Quantile Clipping", arXiv
      2309.17316.
      E. Shulgin, P. Richtarik, "On the Convergence of DP-SGD with Adaptive Clipping", arXiv
      2412.19916.

    Differences from the paper:
      The theory's quantile is that of the norm's distribution at the current parameters; this is
      that of the last norms. Parameters are not averaged.
    """
    _validate.learning_rate(learning_rate)
    return optax.chain(
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
    window: int = 500,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Stochastic gradient descent, clipped where the comparison criterion is largest.

    The threshold is found from the last gradient norms, the learning rate made up for what it cuts
    off, and nothing is clipped where that would not help. Prefer it where there is no threshold to
    begin with and the noise may or may not have heavy tails.

    .. math::
        x_{t+1} = x_t - \frac{\eta_t}{F_t(c_t)} \min(1, c_t/\|g_t\|)\, g_t, \qquad
        c_t = \arg\max_c \frac{F_t(c)^2 \, \overline{n^2}}{\overline{\min(n^2, c^2)}}

    with :math:`\eta` the `learning_rate`, :math:`F_t(c)` the share of the last `window` norms
    :math:`n` that are at most :math:`c`, and bars for means over them. Where the largest value is
    at most 1, :math:`c_t = \infty` and :math:`F_t = 1`: plain gradient descent.

    Args:
      learning_rate: Step size of unclipped gradient descent, non-negative, or an `optax.Schedule`
        of the 0-based step count.
      window: How many norms are remembered, at least 20; default 500.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives no step and is not
        remembered; `"propagate"`: its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added.

    Guarantees:
      The share within the threshold is at least a tenth: no step is longer than ten times that of
      plain gradient descent. The first ten steps are not clipped. Twice
      `window` numbers are kept.

    Edge cases:
      ================= ==========================================
      gradient          step
      ================= ==========================================
      zero              none; remembered as a norm of 0
      NaN or infinity   none, counted and not remembered
      ================= ==========================================

    Sharding:
      As for `clip_sgd`.

    Raises:
      TypeError: An argument is of the wrong type; `window` must be a concrete integer
        (`static_args` of `optax.inject_hyperparams`).
      ValueError: `learning_rate` negative, `window` below 20.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.max_ccc_sgd(1.0, window=20)
      >>> params = jnp.zeros(1)
      >>> state = optimizer.init(params)
      >>> for gradient in [1.0] * 19 + [100.0]:
      ...     update, state = optimizer.update(jnp.array([gradient]), state, params)
      >>> print(update)  # clipped to 1, and 20/19 for 19 of 20 norms within
      [-1.0526316]

    References:
      N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of
      SGD with Gradient Clipping in High-Dimensions", arXiv 2406.11733.

    Differences from the paper:
      The paper's schedule knows the distribution of the residual of streaming least squares; this
      one reads an empirical criterion off the norms of any gradients (`clipax.thresholds.max_ccc`).
    """
    _validate.learning_rate(learning_rate)
    return optax.chain(
        clip_by_global_norm(
            thresholds.max_ccc(window=window), nonfinite=nonfinite, axis_name=axis_name
        ),
        optax.scale_by_learning_rate(learning_rate),
    )
