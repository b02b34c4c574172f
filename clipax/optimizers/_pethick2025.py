"""Generalised gradient norm clipping.

T. Pethick, W. Xie, M. Erdogan, K. Antonakopoulos, A. Silveti-Falls, V. Cevher, "Generalized
Gradient Norm Clipping & Non-Euclidean (L0, L1)-Smoothness", arXiv 2506.01913.
"""

from __future__ import annotations

import optax

from clipax import _validate, norms, scopes
from clipax._typing import AxisName, NonFinite, Scalar, ScalarOrSchedule
from clipax.scopes import Scope
from clipax.thresholds import Threshold
from clipax.transforms._lmo import scale_by_lmo
from clipax.transforms._momentum_norm import scale_by_momentum_norm

__all__ = ["ggnc"]


def ggnc(
    learning_rate: ScalarOrSchedule,
    radius: ScalarOrSchedule | Threshold,
    *,
    norm: str = "euclidean",
    decay: Scalar = 0.9,
    scope: str | Scope = "leaf",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Moves along the momentum's steepest direction in a norm of choice, clipped by its dual norm.

    Clipping for other geometries than Euclid's: far from a minimum a step of fixed length, as of
    sign descent or Muon, near it steepest descent with steps that vanish with the gradient. Prefer
    it to `momentum_clip_sgd` where the parameters are matrices (`"spectral"`, "clipped Scion").

    .. math::
        m_t = b\, m_{t-1} + (1 - b)\, g_t, \qquad
        v_t = \arg\min_{\|v\| \le 1} \langle m_t, v \rangle, \qquad
        x_{t+1} = x_t + \eta_t \min(\rho, \|m_t\|_*)\, v_t

    with :math:`\eta` the `learning_rate`, :math:`\rho` the `radius`, :math:`b` the `decay` and
    :math:`\|m\|_* = \langle m, -v \rangle` the dual norm:

    ============= ========================== ================================
    `norm`        :math:`-v`                 :math:`\|m\|_*`
    ============= ========================== ================================
    `"euclidean"` `m/|m|`                    the Euclidean norm
    `"max"`       `sign(m)`                  the sum of all magnitudes
    `"spectral"`  `U V^T` of each matrix     the sum of all singular values
    ============= ========================== ================================

    Args:
      learning_rate: Step size; non-negative, or an `optax.Schedule`.
      radius: The dual norm of the momentum above which it is clipped: a positive number (infinity:
        never clip), an `optax.Schedule` or a `Threshold`. No step is longer, in the norm, than
        `learning_rate * radius`.
      norm: The norm of the parameters. `"euclidean"` (default) of all together, `"max"`: the
        largest magnitude of an entry, or `"spectral"`: the largest singular value of a matrix;
        vectors and scalars are matrices of one column.
      decay: Decay rate of the momentum, in [0, 1), from zero and without bias correction; default
        .9 as in the authors' code. The momentum is kept in float32 or better;
        `optax.inject_hyperparams` rounds the rate to the parameters' dtype: in bfloat16 pass it
        `hyperparam_dtype=jnp.float32`.
      scope: For `"spectral"`, what is one matrix, as for `clip_by_singular_values`; `"leaf"`
        (default): a leaf, where all axes but the last are its rows.
      nonfinite: `"zero"` (default): a gradient with NaN or infinity gives no step and is
        forgotten; `"propagate"`: its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added.

    Guarantees:
      No step is longer than `learning_rate * radius` in the norm, up to rounding. The Euclidean one
      is `momentum_clip_sgd` with `max_step = learning_rate * radius`. `clipax.metrics` reports two
      blocks, `gradient` (its Euclidean norm) and `averaged` (the dual norm of the momentum).

    Edge cases:
      ============================ ======================================================
      gradient                     step
      ============================ ======================================================
      zero                         of the momentum
      NaN or infinity              none; the momentum is kept
      singular value of zero       no move there: up to rounding, that is up to `eps` times
                                   rows or columns of the largest
      matrices, `"spectral"`       one singular value decomposition each and step
      1e30, once                   as long as any other, until the momentum has forgotten it
      under differentiation        `sign(m)` and `U V^T` are constants
      ============================ ======================================================

    Sharding:
      As for `momentum_clip_sgd`; `"max"` and `"spectral"` take a second collective inside
      `shard_map`, where `"spectral"` refuses parts of matrices, as `clip_by_singular_values` does.

    Raises:
      TypeError: An argument is of the wrong type.
      ValueError: `learning_rate` negative, `radius` not positive, `norm` unknown, `decay` outside
        [0, 1); `scope` given beside another norm than `"spectral"`; when used: `scope` merges
        leaves, or a matrix is sharded.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.ggnc(0.1, radius=2.0, norm="max", decay=0.0)
      >>> params = jnp.array([3.0, -4.0])
      >>> state = optimizer.init(params)
      >>> for gradient in (params, 0.125 * params):  # of dual norm 7, then 0.875
      ...     update, state = optimizer.update(gradient, state, params)
      ...     print(update)
      [-0.2  0.2]
      [-0.0875  0.0875]

    References:
      T. Pethick, W. Xie, M. Erdogan, K. Antonakopoulos, A. Silveti-Falls, V. Cevher, "Generalized
      Gradient Norm Clipping & Non-Euclidean (L0, L1)-Smoothness", NeurIPS 2025, arXiv 2506.01913,
      Algorithm 3.

    Differences from the paper:
      All leaves have one norm and the radius 1: the paper's Scion scales the spectral norm by the
      matrix's sides, and gives layers norms and radii of their own, with one dual norm for all
      (`optax.partition` clips each group by itself). The polar factor is exact, not that of a
      Newton-Schulz iteration. The constrained variant with weight decay is not here.
    """
    _validate.learning_rate(learning_rate)
    if not (callable(radius) or isinstance(radius, Threshold)):
        _validate.threshold("radius", radius)
    _validate.one_of("norm", norm, ("euclidean", "max", "spectral"))
    resolved = scopes.resolve(scope)
    if norm != "spectral" and scope != "leaf":
        raise ValueError(f"`scope` must not be given for norm={norm!r}, got {scope!r}.")
    if norm == "euclidean":
        scaled = scale_by_momentum_norm(
            norms.clip(radius), decay=decay, nonfinite=nonfinite, axis_name=axis_name
        )
    else:
        scaled = scale_by_lmo(
            radius, norm=norm, decay=decay, scope=resolved, nonfinite=nonfinite, axis_name=axis_name
        )
    return optax.chain(scaled, optax.scale_by_learning_rate(learning_rate))
