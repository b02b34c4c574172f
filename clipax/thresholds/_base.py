"""The pair of pure functions that makes a threshold, and what can stand in for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from clipax import _validate
from clipax._typing import Array, ScalarOrSchedule

__all__ = ["Context", "Threshold", "as_threshold", "raise_to_normal"]


class Context(NamedTuple):
    """The facts that a decision may use besides the norms.

    Attributes:
      count: Number of steps before this one, an int32 scalar. It always advances.
      param_norms: Norms of the parameters on the same blocks, where `needs_params`; else None.
      example_norms: Norms of the single examples' gradients, a vector, where the caller of `update`
        gave the extra argument of this name; else None.
      total_norm: Norm of all measured blocks together, a scalar; blocks that are not finite count
        as zero. None where the caller measures a single block by itself.
      sizes: Number of entries behind each norm, as floats that broadcast against the norms; None
        where the caller does not know it.
    """

    count: Array  # type: ignore[assignment]  # hides tuple.count, as optax's states do
    param_norms: Array | None = None
    example_norms: Array | None = None
    total_norm: Array | None = None
    sizes: Array | np.ndarray | None = None


class Threshold(NamedTuple):
    """A threshold as a pair of pure functions, the twin of `optax.GradientTransformation` on norms.

    Both work elementwise on an array of norms of any shape. Every array in the state has the norms'
    shape as its leading shape; the caller keeps the old rows where a norm is not finite, so the
    functions only ever see finite norms. A method that scales gradients besides clipping them is a
    `clipax.norms.NormRule`.

    Attributes:
      init: From the shape of the norms to a state.
      update: From `(norms, state, context)` to `(threshold, state)`.
      needs_params: Whether `context.param_norms` is used.
    """

    init: Callable[[tuple[int, ...]], Any]
    update: Callable[[Array, Any, Context], tuple[Array, Any]]
    needs_params: bool = False


def as_threshold(value: ScalarOrSchedule | Threshold, *, name: str = "threshold") -> Threshold:
    """Make a `Threshold` of a number, of a schedule, or of itself.

    Args:
      value: A positive number (infinity, or one beyond the norms' type: never clip), an
        `optax.Schedule` of the 0-based step count, or a `Threshold`. In place of NaN, and of less
        than the smallest normal number, that number is taken: then next to nothing passes.
      name: Name of the argument in errors.

    Returns:
      A `Threshold`; without memory unless `value` has one.

    Raises:
      TypeError: `value` is none of these.
      ValueError: `value` is a number that is not positive.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> threshold = clipax.thresholds.as_threshold(lambda count: 1.0 + count)
      >>> context = clipax.thresholds.Context(count=jnp.array(4))
      >>> print(threshold.update(jnp.ones(2), threshold.init((2,)), context)[0])
      [5. 5.]
    """
    if isinstance(value, Threshold):
        return value
    if not callable(value):
        _validate.threshold(name, value)

    def update(norms: Array, state: Any, context: Context) -> tuple[Array, Any]:
        now = value(context.count) if callable(value) else value
        # A schedule may decay to zero or below. NaN fails the comparison, and is replaced too.
        least = jnp.finfo(norms.dtype).smallest_normal
        now = _validate.to_float(now, norms.dtype)
        return jnp.broadcast_to(jnp.where(now >= least, now, least), norms.shape), state

    return Threshold(lambda shape: (), update)


def raise_to_normal(threshold: Array) -> Array:
    """Raise a threshold to the smallest normal number: a clip needs a positive one."""
    return jnp.maximum(threshold, jnp.finfo(threshold.dtype).smallest_normal)
