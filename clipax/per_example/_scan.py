"""The loop over microbatches: gradients, norms and factors of its examples, added up as they come.

Nothing of the size of a gradient outlives its microbatch but one sum in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from clipax import scopes
from clipax._typing import Array, Norms
from clipax.engine import guard, hide
from clipax.measure import (
    Leaf,
    Mesh,
    accumulation_dtype,
    measure,
    named_leaves,
    spread,
    wide_dtype,
)
from clipax.norms import Decision
from clipax.scopes import Scope

__all__ = ["Microbatches", "Sums", "add_up"]

Decide = Callable[[Array], Decision]


class Microbatches(NamedTuple):
    """A batch cut into microbatches.

    Attributes:
      examples: Arrays with two axes in place of the batch's: place in a microbatch, microbatch.
        Neighbours in a microbatch are far apart in the batch, so that a batch that is sharded over
        its examples is one whose microbatches are, without moving an example.
      real: Which examples count, with the same two axes.
      size: Number of examples, padding behind the batch's end apart.
    """

    examples: Any
    real: Array
    size: int

    @staticmethod
    def of(batch: Any, mask: Array | None, size: int, microbatch_size: int) -> Microbatches:
        """Cuts the batch; its last examples are padded with copies of the first."""
        length = min(microbatch_size, size)
        padding = -size % length

        def cut(array: Array) -> Array:
            array = jnp.asarray(array)
            if padding:
                array = jnp.concatenate([array, array[:padding]])
            return array.reshape(length, -1, *array.shape[1:])

        real = jnp.ones(size, bool) if mask is None else jnp.asarray(mask, bool)
        real = jnp.concatenate([real, jnp.zeros(padding, bool)]) if padding else real
        return Microbatches(jax.tree.map(cut, batch), real.reshape(length, -1), size)

    @property
    def length(self) -> int:
        """Examples in a microbatch."""
        return self.real.shape[0]

    def at(self, place: Array) -> tuple[Any, Array]:
        """The examples of one microbatch, and which of them count."""
        return jax.tree.map(
            lambda array: lax.dynamic_index_in_dim(array, place, axis=1, keepdims=False),
            (self.examples, self.real),
        )

    def in_order(self, values: Any) -> Any:
        """What the loop gave for each microbatch and example, as one axis in the batch's order."""

        def join(array: Array) -> Array:
            array = jnp.swapaxes(array, 0, 1)
            return array.reshape(-1, *array.shape[2:])[: self.size]

        return jax.tree.map(join, values)


class Sums(NamedTuple):
    """What the loop gives.

    Attributes:
      leaves: The sum of the clipped gradients, leaf by leaf, in float32 or better.
      value: The sum of the losses of the examples that entered it.
      norms: The norms of each example's blocks, by label, excluded ones apart.
      finite: Which examples are finite.
      aux: What `fun` returned beside the losses, for each example.
    """

    leaves: list[Array]
    value: Array
    norms: Norms
    finite: Array
    aux: Any


def add_up(
    fun: Callable[..., Any],
    params: Any,
    batch: Microbatches,
    *,
    scope: Scope,
    decide: Decide,
    mesh: Mesh,
) -> Sums:
    """Adds up the clipped gradients of all examples.

    Args:
      fun: From parameters and one example to its loss and auxiliary output.
      params: The parameters.
      batch: The batch.
      scope: Which entries of one example's gradient share a norm.
      decide: From norms to factors.
      mesh: The devices that hold the other examples.

    Returns:
      The sums over the examples of this device, and what is known of each.
    """
    params = mesh.vary(params)
    # The first axis of every leaf counts the examples of a microbatch. The norms of all are taken
    # from one measurement, not from a vectorised one, in which the branch for overflow would be
    # taken always.
    each = scopes.stacked(0, within=scope)
    gradient = jax.value_and_grad(fun, has_aux=True)

    def one(place: Array, sums: tuple[list[Array], Array]) -> tuple[Any, Any]:
        examples, real = batch.at(place)
        if batch.length == 1:
            # A loop of its own for every example keeps products with it dense and unbatched.
            single = gradient(params, *jax.tree.map(lambda array: array[0], examples))
            (value, aux), grads = jax.tree.map(lambda array: jnp.asarray(array)[None], single)
        else:
            axes = (None, *(0 for _ in examples))
            (value, aux), grads = jax.vmap(gradient, in_axes=axes)(params, *examples)
        leaves, _ = named_leaves(grads, each)
        dtype = accumulation_dtype([leaf.value.dtype for leaf in leaves])
        norms, _ = measure(leaves, dtype, axis_name=())
        finite = _finite(value, norms)
        enter = finite & real
        added = _added(leaves, norms, decide, enter, sums[0])
        loss = jnp.sum(jnp.where(enter, value, 0).astype(sums[1].dtype))
        excluded = {leaf.block.label for leaf in leaves if leaf.block.excluded}
        shown = {label: norm for label, norm in norms.items() if label not in excluded}
        return (added, sums[1] + loss), (shown, finite, aux)

    leaves, _ = named_leaves(params, scope)
    dtype = accumulation_dtype([leaf.value.dtype for leaf in leaves])
    zeros = [
        jnp.zeros(leaf.value.shape, wide_dtype(leaf.value.dtype, jnp.float32)) for leaf in leaves
    ]
    start = mesh.vary((zeros, jnp.zeros((), dtype)))
    places = jnp.arange(batch.real.shape[1])
    (sums, value), known = lax.scan(lambda carry, place: one(place, carry), start, places)
    return Sums(sums, value, *batch.in_order(known))


def _finite(value: Array, norms: Norms) -> Array:
    """Which examples of a microbatch are finite: the loss and all norms, excluded leaves' too."""
    finite = jnp.isfinite(value)
    for norm in norms.values():
        finite &= jnp.all(jnp.isfinite(norm.reshape(norm.shape[0], -1)), axis=1)
    return finite


def _added(
    leaves: Sequence[Leaf], norms: Norms, decide: Decide, enter: Array, sums: Sequence[Array]
) -> list[Array]:
    """The sums with the examples' scaled gradients."""
    factors: Norms = {}
    for leaf in leaves:
        label, norm = leaf.block.label, norms[leaf.block.label]
        if label not in factors:
            safe = jnp.where(jnp.isfinite(norm), norm, 0)
            factors[label] = jnp.ones_like(norm) if leaf.block.excluded else decide(safe).factor
    added = []
    hidden = hide([leaf.value for leaf in leaves])
    for leaf, value, before in zip(leaves, hidden, sums, strict=True):
        scaled = value.astype(before.dtype) * spread(factors[leaf.block.label], leaf)
        scaled = guard(jnp.expand_dims(enter, tuple(range(1, scaled.ndim))), scaled, 0.0)
        if len(scaled) > 1:
            # As a product: XLA for CPU sums over a first axis several times slower. Not with a
            # constant, which it would turn into such a sum.
            weights = enter.astype(scaled.dtype)
            total = jnp.tensordot(weights, scaled, axes=1, precision=lax.Precision.HIGHEST)
        else:
            total = scaled[0]
        added.append(before + total)
    return added
