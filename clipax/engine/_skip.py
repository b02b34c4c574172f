"""Steps that are taken or left out as a whole, for `skip_nonfinite` and `skip_spikes`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from clipax import _platforms, _validate
from clipax._typing import NUMBERS, Array, Params, Updates

__all__ = [
    "Skippable",
    "make_skippable",
    "mask_derivatives",
    "select_step",
    "strip_weak_types",
]


class Skippable(NamedTuple):
    """A transformation whose steps can be left out.

    Attributes:
      init: From the parameters to the inner state.
      update: From `(taken, updates, state, params, extra)` to whether the step is taken, updates
        and inner state: those of the inner transformation where the scalar `taken` is true and its
        result passes, else zeros and the state as it was.
    """

    init: Callable[[Params], Any]
    update: Callable[
        [Array, Updates, Any, Params | None, Mapping[str, Any]], tuple[Array, Updates, Any]
    ]


class _Forms(NamedTuple):
    """Two ways to leave a step out, and one to make it whether it will be taken or not.

    They are functions of `(taken, updates, state, given)`, parameters and extra arguments last.
    """

    branch: Callable[..., tuple[Updates, Any]]
    select: Callable[..., tuple[Updates, Any]]
    make: Callable[..., tuple[Updates, Any]]


def make_skippable(
    inner: optax.GradientTransformation,
    judge: Callable[[Updates, Any, Any], Array] | None = None,
) -> Skippable:
    """Make the steps of a transformation conditional.

    Args:
      inner: The transformation.
      judge: From its updates, its new and its old state to whether the step is taken; None to take
        whatever it makes.

    Raises:
      TypeError: `inner` is not a gradient transformation.
    """
    _validate.transformation("inner", inner)
    if isinstance(inner, optax.GradientTransformation):
        inner = optax.with_extra_args_support(inner)
    else:  # `optax.MultiSteps` has the functions of a transformation, and takes extra arguments
        inner = optax.GradientTransformationExtraArgs(inner.init, inner.update)
    always = _make_forms(inner, lambda given: given)

    def init(params: Params) -> Any:
        return strip_weak_types(inner.init(params))

    def update(
        taken: Array, updates: Updates, state: Any, params: Params | None, extra: Mapping[str, Any]
    ) -> tuple[Array, Updates, Any]:
        arguments: Any = params, dict(extra)
        if all(isinstance(leaf, NUMBERS) for leaf in jax.tree.leaves(arguments)):
            # The same functions at every step: outside of `jit` JAX caches programs by them.
            forms, given = always, arguments
        else:
            # Line searches take a function among the extra arguments, and some leaves of a whole
            # Equinox model are functions: these are no operands.
            given, join = _split_numbers(arguments)
            forms = _make_forms(inner, join)
        operands = taken, updates, state, given
        if judge is not None:
            # What is made has to be there before it is judged: no platform gains by a branch.
            result, new = forms.make(*operands)
            taken &= judge(result, new, state)
            return taken, *_drop_unless(taken, result, new, state)
        made = _platforms.choose(*operands, cpu=forms.branch, gpu=forms.select, tpu=forms.select)
        return taken, *made

    return Skippable(init, update)


def _split_numbers(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """Split a tree into its numbers, and the function that puts them back among the rest."""
    leaves, structure = jax.tree.flatten(tree)
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, NUMBERS)]

    def join(numbers: list[Any]) -> Any:
        whole = list(leaves)
        for place, number in zip(places, numbers, strict=True):
            whole[place] = number
        return jax.tree.unflatten(structure, whole)

    return [leaves[place] for place in places], join


def _make_forms(
    inner: optax.GradientTransformationExtraArgs, join: Callable[[Any], tuple[Params, Any]]
) -> _Forms:
    """Make all forms of a step; `join` gives parameters and extra arguments of what is given."""

    # Inlined into its callers, and traced once for all of them.
    @partial(jax.jit, inline=True)
    def take(updates: Updates, state: Any, given: Any) -> tuple[Updates, Any]:
        params, extra = join(given)
        taken, new = inner.update(updates, state, params, **extra)
        return strip_weak_types(taken), jax.tree.map(_cast_like, new, state)

    def stay(updates: Updates, state: Any, given: Any) -> tuple[Updates, Any]:
        shapes, _ = jax.eval_shape(take, updates, state, given)
        # `optax.lookahead` returns updates of two sets of parameters for a gradient of one.
        structures: list[Any] = [jax.tree.structure(updates), jax.tree.structure(shapes)]
        zeros = jax.tree.map(
            lambda leaf, like: jnp.zeros_like(leaf, dtype=like.dtype),
            updates if structures[0] == structures[1] else shapes,
            shapes,
        )
        return zeros, state

    def branch(taken: Array, updates: Updates, state: Any, given: Any) -> tuple[Updates, Any]:
        # XLA for CPU copies the old state for a selection, and writes out both
        # (`benchmarks/NOTES.md`).
        return lax.cond(taken, take, stay, updates, state, given)

    @partial(jax.jit, inline=True)
    def make(taken: Array, updates: Updates, state: Any, given: Any) -> tuple[Updates, Any]:
        return take(*mask_derivatives(taken, (updates, state, given)))

    @partial(jax.jit, inline=True)
    def select(taken: Array, updates: Updates, state: Any, given: Any) -> tuple[Updates, Any]:
        # For GPU and TPU: a conditional makes the host of a GPU wait and costs a TPU a temporary of
        # the tree's size; a selection is fused into the update. Zeros in place of a bad gradient
        # would cost a read: the norm of a clip inside is measured together with `taken`.
        result, new = make(taken, updates, state, given)
        return _drop_unless(taken, result, new, state)

    return _Forms(branch, select, make)


def _drop_unless(taken: Array, result: Updates, new: Any, state: Any) -> tuple[Updates, Any]:
    """Select the updates and the new state where the step is taken, else zeros and the old one."""
    zeros = jax.tree.map(jnp.zeros_like, result)
    return select_step(taken, result, zeros), select_step(taken, new, state)


def strip_weak_types(tree: Any) -> Any:
    """Make arrays without weak types, which would change from the first step to the second."""

    def strip(value: Any) -> Any:
        value = value if hasattr(value, "dtype") else jnp.asarray(value)
        return value.astype(value.dtype) if getattr(value, "weak_type", False) else value

    return jax.tree.map(strip, tree)


def select_step(taken: Array, new: Any, old: Any) -> Any:
    """Select the new values, in the types of the old ones, where the step is taken, else the old.

    Keys of random numbers are selected too.
    """
    return jax.tree.map(
        lambda value, like: lax.select(taken, _cast_like(value, like), like), new, old
    )


def mask_derivatives(taken: Array, tree: Any) -> Any:
    """Return the tree as it is, with derivatives of zero where the step is not taken.

    The derivatives of a step on NaN are NaN, times zero too.
    """
    leaves, structure = jax.tree.flatten(tree)
    types = [getattr(leaf, "dtype", bool) for leaf in leaves]
    places = [place for place, kind in enumerate(types) if jnp.issubdtype(kind, jnp.inexact)]
    masked = _mask(taken, [leaves[place] for place in places])
    for place, leaf in zip(places, masked, strict=True):
        leaves[place] = leaf
    return jax.tree.unflatten(structure, leaves)


@jax.custom_jvp
def _mask(taken: Array, values: Sequence[Array]) -> Sequence[Array]:
    del taken
    return values


@_mask.defjvp
def _mask_jvp(primals: Any, tangents: Any) -> tuple[Sequence[Array], Sequence[Array]]:
    taken, values = primals
    kept = [lax.select(taken, tangent, jnp.zeros_like(tangent)) for tangent in tangents[1]]
    return values, kept


def _cast_like(new: Any, old: Any) -> Any:
    """Cast a new value to the type of the old one: both branches must return one type."""
    new = new if hasattr(new, "dtype") else jnp.asarray(new)
    same = new.dtype == old.dtype and not getattr(new, "weak_type", False)
    return new if same else new.astype(old.dtype)
