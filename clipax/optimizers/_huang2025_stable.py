"""Adam on gradients without spikes and of even norms: Stable-SPAM.

T. Huang, H. Hu, Z. Zhang, G. Jin, X. Li, L. Shen, T. Chen, L. Liu, Q. Wen, Z. Wang, S. Liu,
"Stable-SPAM: How to Train in 4-Bit More Stably than 16-Bit Adam", arXiv 2502.17055.
"""

from __future__ import annotations

import optax

from clipax import _validate
from clipax._typing import AxisName, NonFinite, Scalar, ScalarOrSchedule
from clipax.transforms._stable_spam import scale_by_stable_spam

__all__ = ["stable_spam"]


def stable_spam(
    learning_rate: ScalarOrSchedule,
    *,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    norm_decay: Scalar = 0.7,
    square_decay: Scalar = 0.9,
    peak_decay: Scalar = 0.999,
    reset: int | None = 1000,
    weight_decay: Scalar | None = None,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adam on gradients whose entries are cut and whose norms are evened out (Stable-SPAM).

    In each tensor entries above an average of the largest are cut (AdaClip), then the norm is
    brought to about 1, less where it is unusually small (AdaGN). Made for training in very low
    precision, where gradient norms jump; there is no threshold in units of the gradient.

    .. math::
        T_t = \mathrm{ema}_{\gamma_3}(\max |g_t|), \quad
        \tilde g_t = \begin{cases} g_t \, T_t / \max |g_t| & |g_t| > T_t \\ g_t \end{cases}, \quad
        \hat g_t = \frac{\tilde g_t}{n_t} \cdot \frac{\mathrm{ema}_{\gamma_1}(n_t)}
        {\sqrt{\mathrm{ema}_{\gamma_2}(n_t^2)} + \epsilon}, \quad n_t = \|\tilde g_t\|, \\
        x_{t+1} = x_t - \eta_t \Big(\frac{\mathrm{ema}_{b_1}(\hat g_t)}
        {\sqrt{\mathrm{ema}_{b_2}(\hat g_t^2)} + \epsilon} + \lambda x_t\Big)

    leaf by leaf, all moving averages with bias correction, with :math:`\eta` the `learning_rate`,
    :math:`\epsilon` the `eps`, :math:`\gamma_1` the `norm_decay`, :math:`\gamma_2` the
    `square_decay`, :math:`\gamma_3` the `peak_decay` and :math:`\lambda` the `weight_decay`. Before
    each step (from 1) that is a multiple of `reset` the last two averages begin anew.

    Args:
      learning_rate: Step size, in units of the parameters; non-negative, or an `optax.Schedule`.
      b1: Decay rate of the momentum, in [0, 1); default .9.
      b2: Decay rate of the second moment, in [0, 1); default .999. `optax.inject_hyperparams`
        rounds it to the parameters' dtype: in bfloat16 pass it `hyperparam_dtype=jnp.float32`.
      eps: Keeps both divisors from zero; at least 1e-37, default 1e-8.
      norm_decay: Decay rate of the average norm, in [0, 1); default .7, the paper's gamma 1.
      square_decay: Decay rate of the average squared norm, in [0, 1); default .9, its gamma 2.
      peak_decay: Decay rate of the average of the largest entry, in [0, 1); default .999, its
        gamma 3.
      reset: Steps from one reset to the next, at least 1; default 1000 as in the paper. None: none.
      weight_decay: Decoupled weight decay, :math:`\lambda`; non-negative, None (default) for none.
      nonfinite: `"zero"` (default): a leaf with NaN or infinity gives no step and is forgotten, the
        others are not touched; `"propagate"`: its update is NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      An optimizer: a `GradientTransformationExtraArgs` whose updates are to be added. Momentum and
      second moment are kept in float32 or better. Its telemetry is of the entries' clip, leaf by
      leaf: the largest entry in place of the norm, and the threshold :math:`T_t`.

    Guarantees:
      A tensor whose entries stay within the threshold is not cut. Norms and scales are kept, no
      squares, so that 1e30 does not overflow.

    Edge cases:
      ================= ============================================
      gradient          step
      ================= ============================================
      first             of a gradient of norm 1: nothing is cut
      zero              of the momentum; averages are fed a norm of 0
      NaN or infinity   none in that leaf; its averages and its count of steps are kept
      a huge spike      enters the threshold at once, and the mean square, whose root falls by a
                        twentieth a step: the gradients after it count for little until then
      ================= ============================================

    Sharding:
      Two reductions for each mesh axis, largest entries first, then norms; momentum and second
      moment are sharded like the parameters.

    Raises:
      TypeError: An argument is of the wrong type; `reset` must be a concrete integer (`static_args`
        of `optax.inject_hyperparams`).
      ValueError: `learning_rate` or `weight_decay` negative, a decay rate outside [0, 1), `eps`
        below 1e-37, `reset` below 1; when used: no `params` with decay.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.stable_spam(1.0, peak_decay=0.5)
      >>> params = jnp.zeros(2)
      >>> state = optimizer.init(params)
      >>> for gradient in ([3.0, 1.0], [6.0, 1.0]):  # the average of 3, 6, 6 is 5
      ...     _, state = optimizer.update(jnp.array(gradient), state, params)
      >>> print(clipax.metrics(state)["threshold"])
      5.0

    References:
      T. Huang, H. Hu, Z. Zhang, G. Jin, X. Li, L. Shen, T. Chen, L. Liu, Q. Wen, Z. Wang, S. Liu,
      "Stable-SPAM: How to Train in 4-Bit More Stably than 16-Bit Adam", arXiv 2502.17055.

    Differences from the paper:
      A gradient that is zero is fed to all averages; the published code leaves its tensor out. The
      bias corrections of momentum and second moment begin anew with them, as in that code; its
      schedule for `b1` is left out.
    """
    _validate.learning_rate(learning_rate)
    return optax.chain(
        scale_by_stable_spam(
            b1=b1,
            b2=b2,
            eps=eps,
            norm_decay=norm_decay,
            square_decay=square_decay,
            peak_decay=peak_decay,
            reset=reset,
            weight_decay=weight_decay,
            nonfinite=nonfinite,
            axis_name=axis_name,
        ),
        optax.scale_by_learning_rate(learning_rate),
    )
