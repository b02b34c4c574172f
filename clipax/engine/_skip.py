"""Steps that are taken or left out as a whole, for `skip_nonfinite` and `skip_spikes`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from clipax._typing import Array, Params, Updates

__all__ = ["Skippable", "make_skippable"]

_NUMBERS = (jax.Array, np.ndarray, np.generic, float, int, complex)


class Skippable(NamedTuple):
    """A transformation whose steps can be left out.

    Attributes:
      init: From the parameters to the inner state.
      update: From `(taken, updates, state, params, extra)` to updates and inner state: those of the
        inner transformation where the scalar `taken` is true, else zeros and the state as it was.
    """

    init: Callable[[Params], Any]
    update: Callable[[Array, Updates, Any, Params | None, Mapping[str, Any]], tuple[Updates, Any]]


def make_skippable(inner: optax.GradientTransformation) -> Skippable:
    """Make the steps of a transformation conditional.

    Raises:
      TypeError: `inner` is not a gradient transformation.
    """
    if not (callable(getattr(inner, "init", None)) and callable(getattr(inner, "update", None))):
        raise TypeError(f"`inner` must be an optax gradient transformation, got {inner!r}.")
    if isinstance(inner, optax.GradientTransformation):
        inner = optax.with_extra_args_support(inner)
    else:  # `optax.MultiSteps` has the functions of a transformation, and takes extra arguments
        inner = optax.GradientTransformationExtraArgs(inner.init, inner.update)

    def take(updates: Updates, state: Any, params: Params, extra: Any) -> tuple[Updates, Any]:
        taken, new = inner.update(updates, state, params, **extra)
        return jax.tree.map(_strip_weak_type, taken), jax.tree.map(_cast_like, new, state)

    def stay(updates: Updates, state: Any, params: Params, extra: Any) -> tuple[Updates, Any]:
        shapes, _ = jax.eval_shape(partial(take, extra=extra), updates, state, params)
        zeros = jax.tree.map(
            lambda leaf, like: jnp.zeros_like(leaf, dtype=like.dtype), updates, shapes
        )
        return zeros, state

    def init(params: Params) -> Any:
        return jax.tree.map(_strip_weak_type, inner.init(params))

    def update(
        taken: Array, updates: Updates, state: Any, params: Params | None, extra: Mapping[str, Any]
    ) -> tuple[Updates, Any]:
        # A conditional: for a selection XLA copies the old state and writes out both
        # (`benchmarks/NOTES.md`).
        if all(isinstance(leaf, _NUMBERS) for leaf in jax.tree.leaves(extra)):
            # The same two functions at every step: outside of `jit` JAX caches the compiled `cond`
            # by its branches.
            return lax.cond(taken, take, stay, updates, state, params, extra)
        # Line searches take a function among the extra arguments, which `cond` does not.
        return lax.cond(
            taken, partial(take, extra=extra), partial(stay, extra=extra), updates, state, params
        )

    return Skippable(init, update)


def _cast_like(new: Any, old: Any) -> Any:
    """Cast a new value to the type of the old one: both branches must return one type."""
    new = new if hasattr(new, "dtype") else jnp.asarray(new)
    same = new.dtype == old.dtype and not getattr(new, "weak_type", False)
    return new if same else new.astype(old.dtype)


def _strip_weak_type(value: Any) -> Any:
    """Remove an array's weak type, which would change from the first step to the second."""
    value = value if hasattr(value, "dtype") else jnp.asarray(value)
    return value.astype(value.dtype) if getattr(value, "weak_type", False) else value
