"""A step that is taken or left out as a whole: the machinery of the wrappers that skip."""

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

__all__ = ["Skipping", "skipping"]

_NUMBERS = (jax.Array, np.ndarray, np.generic, float, int, complex)


class Skipping(NamedTuple):
    """A transformation whose steps can be left out.

    Attributes:
      init: From the parameters to the inner state.
      update: From `(taken, updates, state, params, extra)` to updates and inner state: those of the
        inner transformation where the scalar `taken` holds, else zeros and the state as it was.
    """

    init: Callable[[Params], Any]
    update: Callable[[Array, Updates, Any, Params | None, Mapping[str, Any]], tuple[Updates, Any]]


def skipping(inner: optax.GradientTransformation) -> Skipping:
    """Makes the steps of a transformation conditional.

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
        return jax.tree.map(_strong, taken), jax.tree.map(_like, new, state)

    def stay(updates: Updates, state: Any, params: Params, extra: Any) -> tuple[Updates, Any]:
        shapes, _ = jax.eval_shape(partial(take, extra=extra), updates, state, params)
        zeros = jax.tree.map(
            lambda leaf, like: jnp.zeros_like(leaf, dtype=like.dtype), updates, shapes
        )
        return zeros, state

    def init(params: Params) -> Any:
        return jax.tree.map(_strong, inner.init(params))

    def update(
        taken: Array, updates: Updates, state: Any, params: Params | None, extra: Mapping[str, Any]
    ) -> tuple[Updates, Any]:
        # A conditional: with a selection XLA would write out both states, and copy them first.
        if all(isinstance(leaf, _NUMBERS) for leaf in jax.tree.leaves(extra)):
            # The same two functions at every step: where the step as a whole is not compiled, the
            # `cond` is, and is found again by its branches.
            return lax.cond(taken, take, stay, updates, state, params, extra)
        # A function among the extra arguments, as line searches take.
        return lax.cond(
            taken, partial(take, extra=extra), partial(stay, extra=extra), updates, state, params
        )

    return Skipping(init, update)


def _like(new: Any, old: Any) -> Any:
    """The new value in the type of the old one: a state keeps its types."""
    new = new if hasattr(new, "dtype") else jnp.asarray(new)
    same = new.dtype == old.dtype and not getattr(new, "weak_type", False)
    return new if same else new.astype(old.dtype)


def _strong(value: Any) -> Any:
    """An array without a weak type, which would change from the first step to the second."""
    value = value if hasattr(value, "dtype") else jnp.asarray(value)
    return value.astype(value.dtype) if getattr(value, "weak_type", False) else value
