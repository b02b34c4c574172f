"""The clipped similar triangles method, an accelerated method for heavy-tailed noise.

E. Gorbunov, M. Danilova, A. Gasnikov, "Stochastic Optimization with Heavy-Tailed Noise via
Accelerated Gradient Clipping", arXiv 2005.10785.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from clipax import _validate, norms
from clipax._states import find
from clipax._typing import Array, AxisName, NonFinite, Params, Scalar
from clipax.engine import EntryContext, EntryRule, Memory, NormRules, Spec, keep, lift
from clipax.measure import wide_dtype
from clipax.thresholds import Context, Threshold

__all__ = ["clipped_sstm", "clipped_sstm_eval_params"]

_MEMORY = ("y_sequence", "z_sequence")


def scale_by_sstm(
    smoothness: Scalar,
    a: Scalar,
    clip_constant: Scalar,
    *,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Move from one point of the sequence x, at which gradients are taken, to the next.

    Steps that are not finite do not count: the weights go by the number of the steps that did.
    """
    _validate.positive("smoothness", smoothness)
    _validate.positive("a", a)
    _validate.threshold("clip_constant", clip_constant)

    def step_size(steps: Array, dtype: Any) -> Array:
        """Compute `alpha_(k+1) = (k + 2)/(2 a L)`."""
        scale = 1 / (2 * jnp.asarray(a, dtype) * jnp.asarray(smoothness, dtype))
        return (steps.astype(dtype) + 2) * scale

    def threshold(norms: Array, steps: Array, context: Context) -> tuple[Array, Array]:
        limit = _validate.to_float(clip_constant, norms.dtype) / step_size(steps, norms.dtype)
        return limit, steps + 1

    def init(leaf: Any) -> Memory:
        # In float32 or better: bfloat16 has 8 bits, and a step of z may be far below one in 256.
        dtype = wide_dtype(jnp.result_type(leaf), jnp.float32)
        if isinstance(leaf, jax.ShapeDtypeStruct):
            raise TypeError(
                "`params` must be arrays, got shapes: the method starts from their values. Call "
                "`jax.eval_shape(optimizer.init, params)` for the shapes of the state."
            )
        return {name: jnp.array(leaf, dtype, copy=True) for name in _MEMORY}

    def update(gradient: Array, memory: Memory, context: EntryContext) -> tuple[Array, Memory]:
        assert context.steps is not None
        assert context.param is not None
        dtype, wide = context.gradient_factor.dtype, gradient.dtype
        now, later = (_weight(context.steps + ahead, dtype).astype(wide) for ahead in (0, 1))
        y, z = (memory[name].astype(wide) for name in _MEMORY)
        new_z = keep(
            z - gradient * (context.gradient_factor * step_size(context.steps, dtype)),
            memory["z_sequence"],
            context,
        )
        z = new_z.astype(wide)
        new_y = keep((1 - now) * y + now * z, memory["y_sequence"], context)
        following = (1 - later) * new_y.astype(wide) + later * z
        return following - context.param.astype(wide), {"y_sequence": new_y, "z_sequence": new_z}

    # Its memory is the number of steps, of which one with a zero gradient is one.
    source = Threshold(lambda shape: jnp.zeros(shape, jnp.int32), threshold, keeps_zeros_out=True)
    rule = EntryRule(init, update, needs_params=True)
    return lift(Spec.of("global", nonfinite, axis_name), NormRules.of(norms.clip(source)), rule)


def _weight(steps: Array, dtype: Any) -> Array:
    """Compute `alpha_(k+1) / A_(k+1)`; the constants cancel, as `A_k = k (k + 3)/(4 a L)`."""
    k = steps.astype(dtype)
    return 2 * (k + 2) / ((k + 1) * (k + 4))


def clipped_sstm(
    smoothness: Scalar,
    a: Scalar,
    clip_constant: Scalar,
    *,
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Accelerate descent on clipped gradients: the method of similar triangles (clipped-SSTM).

    The threshold falls as the step size grows. Prefer it for convex smooth problems whose
    smoothness is known. It has no learning rate; evaluate at `clipped_sstm_eval_params(opt_state)`.

        alpha_{k+1} = (k + 2)/(2 a L),  A_{k+1} = A_k + alpha_{k+1},
        x_{k+1} = (A_k y_k + alpha_{k+1} z_k)/A_{k+1},
        z_{k+1} = z_k - alpha_{k+1} min(1, (B/alpha_{k+1})/||g||) g,
        y_{k+1} = (A_k y_k + alpha_{k+1} z_{k+1})/A_{k+1}

    with `g` the gradient at `x_{k+1}`, `A_0 = 0` and `y_0 = z_0 = x_0`. The optimized parameters
    are the points `x`, to rounding; the output is `y`.

    Args:
      smoothness: Lipschitz constant `L` of the gradient, positive.
      a: Divides the step sizes; positive, at least 1 in the theory and larger for more noise.
      clip_constant: Longest step `B` of the sequence z, positive (infinity: never clip).
      nonfinite: As for `scale_by_norm`; such a step does not count.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, whose updates are added to the parameters: it needs `params`, and keeps y and z.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.clipped_sstm(smoothness=1.0, a=1.0, clip_constant=2.0)
      >>> params = jnp.array([10.0])
      >>> updates, state = optimizer.update(params, optimizer.init(params), params)  # of x^2/2
      >>> print(clipax.clipped_sstm_eval_params(state))
      [8.]

    References:
      Gorbunov, Danilova, Gasnikov, NeurIPS 2020, arXiv 2005.10785, Algorithm 1.
    """
    return scale_by_sstm(smoothness, a, clip_constant, nonfinite=nonfinite, axis_name=axis_name)


def clipped_sstm_eval_params(opt_state: Any, params: Params | None = None) -> Params:
    """Return the point at which to evaluate a model that `clipped_sstm` trains, the sequence y.

    Args:
      opt_state: The optimizer's state, in any nesting of optax's.
      params: The parameters that are trained; their types are given to the result. None (default):
        the result is in float32 or better.

    Returns:
      A tree like the parameters.

    Raises:
      ValueError: There is no state of `clipped_sstm`, or more than one.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> state = clipax.clipped_sstm(1.0, a=1.0, clip_constant=1.0).init({"w": jnp.ones(2)})
      >>> print(clipax.clipped_sstm_eval_params(state)["w"])
      [1. 1.]
    """

    def match(fields: Mapping[str, Any]) -> tuple[Params, Iterable[str]] | None:
        return (fields["y_sequence"], ()) if set(_MEMORY) == set(fields) else None

    sequences = [item for _, item in find(opt_state, match)]
    if len(sequences) != 1:
        raise ValueError(
            f"`opt_state` must hold the state of one `clipped_sstm`, it holds {len(sequences)}."
        )
    if params is None:
        return sequences[0]
    return jax.tree.map(lambda y, like: y.astype(jnp.result_type(like)), sequences[0], params)
