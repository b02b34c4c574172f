"""The pair of pure functions that makes a threshold, and what can stand in for it.

One rule for all of them: a norm of exactly zero says nothing about the size of gradients. It is
that of a frozen layer, of an empty batch, or what a link in front left of a bad step. So no
threshold remembers it: windows, averages, histograms and counts of norms keep their values, row by
row, and time (`Context.count`) alone goes on. Subnormal norms count as zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from clipax import _validate
from clipax._export import exportable
from clipax._typing import Array, ScalarOrSchedule

__all__ = [
    "Context",
    "Threshold",
    "TimedState",
    "as_threshold",
    "follow_norms",
    "is_seen",
    "keep_rows",
    "raise_to_normal",
]


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


class _Threshold(NamedTuple):
    init: Callable[[tuple[int, ...]], Any]
    update: Callable[[Array, Any, Context], tuple[Array, Any]]
    needs_params: bool = False
    keeps_zeros_out: bool = False


class Threshold(_Threshold):
    """A threshold as a pair of pure functions, the twin of `optax.GradientTransformation` on norms.

    Both work elementwise on an array of norms of any shape. Every array in the state has the norms'
    shape as its leading shape; the caller keeps the old rows where a norm is not finite, so the
    functions only ever see finite norms. Where a norm is zero `as_threshold`, by which every method
    takes its threshold, keeps the old rows too. A method that scales gradients besides clipping
    them is a `clipax.norms.NormRule`.

    Attributes:
      init: From the shape of the norms to a state.
      update: From `(norms, state, context)` to `(threshold, state)`.
      needs_params: Whether `context.param_norms` is used.
      keeps_zeros_out: Whether `update` itself leaves norms of zero out of its memory, or has a
        memory of something other than norms, as the examples' norms or the time.
    """

    __slots__ = ()

    def __new__(
        cls,
        init: Callable[[tuple[int, ...]], Any],
        update: Callable[[Array, Any, Context], tuple[Array, Any]],
        needs_params: bool = False,
        keeps_zeros_out: bool = False,
    ) -> Threshold:
        """Make one whose `init` says so where it is given parameters, as in `optax.chain`."""
        init = _validate.shapes_only(init, "threshold")
        return super().__new__(cls, init, update, needs_params, keeps_zeros_out)


@exportable
class TimedState(NamedTuple):
    """State of a schedule: no array, only the mark that the count of steps is needed."""


def as_threshold(value: ScalarOrSchedule | Threshold, *, name: str = "threshold") -> Threshold:
    """Make a `Threshold` of a number, of a schedule, or of itself.

    Args:
      value: A positive number (infinity, or one beyond the norms' type: never clip), an
        `optax.Schedule` of the 0-based step count, or a `Threshold`. In place of NaN, and of less
        than the smallest normal number, that number is taken: then next to nothing passes.
      name: Name of the argument in errors.

    Returns:
      A `Threshold`; without memory unless `value` has one, into which no norm of zero enters.

    Raises:
      TypeError: `value` is none of these.
      ValueError: `value` is a number that is not positive.

    Example:
      >>> import jax.numpy as jnp, optax, clipax
      >>> threshold = clipax.thresholds.as_threshold(optax.linear_schedule(1.0, 9.0, 8))
      >>> context = clipax.thresholds.Context(count=jnp.array(4))
      >>> print(threshold.update(jnp.ones(2), threshold.init((2,)), context)[0])
      [5. 5.]
    """
    if isinstance(value, Threshold):
        return value if value.keeps_zeros_out else _keep_zeros_out(value)
    if callable(value):
        _validate.schedule(name, value)
    else:
        _validate.threshold(name, value)

    def update(norms: Array, state: Any, context: Context) -> tuple[Array, Any]:
        now = value(context.count) if callable(value) else value
        # A schedule may decay to zero or below. NaN fails the comparison, and is replaced too.
        least = jnp.finfo(norms.dtype).smallest_normal
        now = _validate.to_float(now, norms.dtype)
        return jnp.broadcast_to(jnp.where(now >= least, now, least), norms.shape), state

    def init(shape: tuple[int, ...]) -> Any:
        return TimedState() if callable(value) else ()

    return Threshold(init, update, keeps_zeros_out=True)


def follow_norms(
    init: Callable[[tuple[int, ...]], Any],
    remember: Callable[[Any, Array, Context], Any],
    read: Callable[[Any, Context], Array],
    *,
    passes_over_infinity: bool = False,
) -> Threshold:
    """Make a threshold that is read off the norms so far, the current one included.

    Args:
      init: From the shape of the norms to a state.
      remember: From `(state, norms, context)` to the state with the norms in it.
      read: From `(state, context)` to a threshold, zero where nothing is remembered.
      passes_over_infinity: Whether `remember` leaves the state as it is where a norm is infinite.
        It is then handed infinity for zero, and the state is not selected: a large one would cost a
        kernel on a GPU.

    Returns:
      A `Threshold` that leaves norms of zero out: it is then that of the norms before, infinite
      where there were none.
    """

    def update(norms: Array, state: Any, context: Context) -> tuple[Array, Any]:
        seen = is_seen(norms)
        if passes_over_infinity:
            state = remember(state, jnp.where(seen, norms, jnp.inf), context)
        else:
            state = keep_rows(seen, remember(state, norms, context), state)
        now = read(state, context)
        now = jnp.where(seen | (now > 0), raise_to_normal(now.astype(norms.dtype)), jnp.inf)
        return now, state

    return Threshold(init, update, keeps_zeros_out=True)


def _keep_zeros_out(threshold: Threshold) -> Threshold:
    """Keep the memory of a threshold where a norm is zero; it stays positive there too."""

    def update(norms: Array, state: Any, context: Context) -> tuple[Array, Any]:
        now, new = threshold.update(norms, state, context)
        seen = is_seen(norms)
        # A threshold made of a zero may be anything; nothing is clipped by it.
        safe = jnp.where(now > 0, now, jnp.inf)
        return jnp.where(seen, now, safe), keep_rows(seen, new, state)

    return threshold._replace(update=update, keeps_zeros_out=True)


def is_seen(norms: Array) -> Array:
    """Tell which norms are remembered: those that are neither zero nor subnormal."""
    return norms >= jnp.finfo(norms.dtype).smallest_normal


def keep_rows(wanted: Array, new: Any, old: Any) -> Any:
    """Select the new rows of a state where `wanted`, else the old ones, in the types of those."""

    def choose(new: Array, old: Array) -> Array:
        lead = wanted.reshape(wanted.shape + (1,) * (old.ndim - wanted.ndim))
        return jnp.where(lead, new.astype(old.dtype), old)

    return jax.tree.map(choose, new, old)


def raise_to_normal(threshold: Array) -> Array:
    """Raise a threshold to the smallest normal number: a clip needs a positive one."""
    return jnp.maximum(threshold, jnp.finfo(threshold.dtype).smallest_normal)
