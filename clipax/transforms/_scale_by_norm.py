"""The transformation that scales gradients by functions of their norms."""

from __future__ import annotations

import optax

from clipax._typing import AxisName, NonFinite, Scalar
from clipax.engine import NormRules, ScaleByNormState, Spec, lift, momentum
from clipax.norms import NormRule
from clipax.scopes import Scope

__all__ = ["ScaleByNormState", "scale_by_norm"]


def scale_by_norm(
    before: NormRule | None = None,
    *,
    after: NormRule | None = None,
    b1: Scalar | None = None,
    weight_decay: Scalar | None = None,
    total: NormRule | None = None,
    scope: str | Scope = "global",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Scale gradients by factors that are functions of their norms.

    Every method of this package that is a function of norms is an instance. Use it to build your
    own: any composition of `clipax.norms` costs one read of the gradient and one multiplication.

        m_t = b_1 m_{t-1} + (1 - b_1) f_t (g_t + lambda x_t),  u_t = a_t m_t

    where the factors `f_t` (`before`) and `a_t` (`after`) are decided from the norm `n = ||g_t||`
    of each block: `before` sees `n`, `after` sees `f_t n`.

    Args:
      before: Rule for the factor of the gradient, as `clipax.norms.clip(1.0)`; None (default): 1.
      after: Rule for the factor of the momentum, as `norms.adagrad_norm(1.0)`; None (default): 1.
      b1: Decay rate of the momentum, in [0, 1), from zero and without bias correction; None
        (default): no momentum and no memory for it, `m_t` is the scaled gradient.
      weight_decay: Adds this multiple `lambda` of the parameters to the gradient, scaled with it
        but not part of the norm. Non-negative; None (default): none.
      total: Rule for one more factor of `f_t`, common to all blocks, decided from the norm of all
        together as `before` leaves them. It may not depend on the parameters; default None: 1.
      scope: Which entries share a norm; those that do are a block. `"global"` (default): the whole
        tree. `"leaf"`: each array. `"unit"`: each output unit of a kernel, where all axes but the
        last are reduced; a vector or scalar is one block. `clipax.scopes` makes others: parameter
        groups, stacked layers, leaves left out.
      nonfinite: Decides on a block whose norm is not finite. `"zero"` (default): its update is
        zero, an optimizer of this package takes no step there. `"propagate"`: its update is NaN.
        Either way thresholds, stepsizes and momentum of the block keep their values,
        `nonfinite_count` rises, and all other blocks are treated as usual.
      axis_name: Inside `shard_map`, the mesh axes over which the gradients are sharded: a name, a
        tuple of names, or (needed where `check_vma=False`) a mapping from path patterns to names or
        to a `PartitionSpec`. `()` measures each shard by itself. Under `jit`: None.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Raises:
      TypeError: An argument has the wrong type; when used: a leaf has an integer type.
      ValueError: An argument is outside its range (tracers are not checked); when used: no `params`
        where needed, leaves unknown to the state, mesh axes without a name.

    Notes:
      - One read of the gradient, on a CPU two where squares overflow or vanish. A norm above the
        largest float is not finite. Sums are in float32 or better, updates in the gradient's dtype.
      - A factor of exactly 1 keeps every normal number bit for bit. Derivatives are finite. No NaN
        or infinity enters the state. A leaf that is `None` stays `None`; its memory is kept.
      - No threshold remembers a norm of zero, block by block: a frozen layer, or what a link in
        front made of a bad step, says nothing of sizes. Stepsizes and momentum take it in.
      - Sharded gradients take one `psum` inside `shard_map`, and under `jit` one all-reduce for
        each set of mesh axes over which leaves are sharded; XLA merges 256 numbers into one.
      - In this package momentum and scales of entries are kept in float32 or better, sharded like
        parameters, no squares: 1e30 does not overflow. Cast to bfloat16 they are rounded by turns.
      - `optax.inject_hyperparams` rounds decay rates to the parameters' dtype (.999 in bfloat16 to
        1): pass it `hyperparam_dtype=jnp.float32`. Concrete integers are `static_args`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> halve, grads = clipax.norms.normalize(eps=1.0), jnp.array([3.0, 4.0])
      >>> clip_then_halve = clipax.scale_by_norm(clipax.norms.clip(1.0), after=halve)
      >>> updates, state = clip_then_halve.update(grads, clip_then_halve.init(grads))
      >>> print(updates, clipax.metrics(state)["grad_norm"])
      [0.3 0.4] 5.0

    References:
      Forms of arXiv 1905.11881 and arXiv 2406.04443; the guard is this library's. ours.
    """
    return lift(
        Spec.of(scope, nonfinite, axis_name),
        NormRules.of(before, total=total, after=after),
        None if b1 is None else momentum(b1),
        weight_decay=weight_decay,
    )
