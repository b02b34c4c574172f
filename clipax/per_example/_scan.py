"""The loop over microbatches: gradients of the examples are measured, scaled and added up.

One sum in float32 is the only array of a gradient's size that outlives a microbatch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
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
    name_leaves,
    spread,
    wide_dtype,
)
from clipax.norms import Decision
from clipax.scopes import Scope

__all__ = ["Microbatches", "Sums", "add_up"]

Decide = Callable[[Array, Array], Decision]
"""From thresholds, one or one for each example, and norms to factors."""


class Microbatches(NamedTuple):
    """A batch cut into microbatches.

    Attributes:
      examples: Arrays with two axes in place of the batch's: place in a microbatch, microbatch.
        Neighbours in a microbatch are far apart in the batch, so that the microbatches of a sharded
        batch are sharded as well, without moving an example.
      real: True for examples that count, with the same two axes.
      limits: The threshold of each example, with the same two axes; or a scalar, that of all.
      size: Number of examples, padding behind the batch's end apart.
    """

    examples: Any
    real: Array
    limits: Array
    size: int

    @staticmethod
    def of(
        batch: Any, mask: Array | None, limits: Array, size: int, microbatch_size: int
    ) -> Microbatches:
        """Cut the batch; copies of the first examples pad the last microbatch."""
        length = min(microbatch_size, size)
        padding = -size % length

        def cut(array: Array) -> Array:
            array = jnp.asarray(array)
            if padding:
                array = jnp.concatenate([array, array[:padding]])
            return array.reshape(length, -1, *array.shape[1:])

        real = jnp.ones(size, bool) if mask is None else jnp.asarray(mask, bool)
        real = jnp.concatenate([real, jnp.zeros(padding, bool)]) if padding else real
        limits = cut(limits) if limits.ndim else limits
        return Microbatches(jax.tree.map(cut, batch), real.reshape(length, -1), limits, size)

    @property
    def length(self) -> int:
        """Examples in a microbatch."""
        return self.real.shape[0]

    def at(self, place: Array) -> tuple[Any, Array, Array]:
        """Read the examples of one microbatch, which of them count, and their thresholds."""

        def read(array: Array) -> Array:
            return lax.dynamic_index_in_dim(array, place, axis=1, keepdims=False)

        limits = read(self.limits) if self.limits.ndim else self.limits
        return jax.tree.map(read, self.examples), read(self.real), limits

    def in_order(self, values: Any) -> Any:
        """Join the loop's outputs to one axis of examples in the batch's order."""

        def join(array: Array) -> Array:
            array = jnp.swapaxes(array, 0, 1)
            return array.reshape(-1, *array.shape[2:])[: self.size]

        return jax.tree.map(join, values)


class Sums(NamedTuple):
    """The results of the loop.

    Attributes:
      leaves: The sum of the clipped gradients, leaf by leaf, in float32 or better.
      value: The sum of the losses of the examples that entered it.
      norms: The norms of each example's blocks, by label, excluded ones apart.
      finite: True for finite examples.
      aux: Auxiliary output of `fun` for each example.
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
    """Add up the clipped gradients of all examples.

    Args:
      fun: From parameters and one example to its loss and auxiliary output.
      params: The parameters.
      batch: The batch.
      scope: Which entries of one example's gradient share a norm.
      decide: From thresholds and norms to factors.
      mesh: The devices that hold the other examples.

    Returns:
      The sums over the examples of this device, and the norms of each.
    """
    params = mesh.vary(params)
    # The first axis of every leaf counts the examples of a microbatch. One measurement takes the
    # norms of all: under `vmap` the branch for overflow would always run.
    each = scopes.stacked(0, within=scope)
    gradient = jax.value_and_grad(fun, has_aux=True)

    def add_microbatch(sums: tuple[list[Array], Array], place: Array) -> tuple[Any, Any]:
        examples, real, limits = batch.at(place)
        if batch.length == 1:
            # Without `vmap`, products with a single example stay dense and unbatched.
            single = gradient(params, *jax.tree.map(lambda array: array[0], examples))
            (value, aux), grads = jax.tree.map(lambda array: jnp.asarray(array)[None], single)
        else:
            axes = (None, *(0 for _ in examples))
            (value, aux), grads = jax.vmap(gradient, in_axes=axes)(params, *examples)
        leaves, _ = name_leaves(grads, each)
        dtype = accumulation_dtype([leaf.value.dtype for leaf in leaves])
        norms, _ = measure(leaves, dtype, axis_name=())
        finite = _find_finite(value, norms)
        enter = finite & real
        added = _add_scaled(leaves, norms, partial(decide, limits), enter, sums[0])
        loss = jnp.sum(jnp.where(enter, value, 0).astype(sums[1].dtype))
        excluded = {leaf.block.label for leaf in leaves if leaf.block.excluded}
        shown = {label: norm for label, norm in norms.items() if label not in excluded}
        return (added, sums[1] + loss), (shown, finite, aux)

    leaves, _ = name_leaves(params, scope)
    dtype = accumulation_dtype([leaf.value.dtype for leaf in leaves])
    zeros = [
        jnp.zeros(leaf.value.shape, wide_dtype(leaf.value.dtype, jnp.float32)) for leaf in leaves
    ]
    start = mesh.vary((zeros, jnp.zeros((), dtype)))
    places = jnp.arange(batch.real.shape[1])
    (sums, value), known = lax.scan(add_microbatch, start, places)
    return Sums(sums, value, *batch.in_order(known))


def _find_finite(value: Array, norms: Norms) -> Array:
    """Find the examples whose loss and norms, those of excluded leaves included, are finite."""
    finite = jnp.isfinite(value)
    for norm in norms.values():
        finite &= jnp.all(jnp.isfinite(norm.reshape(norm.shape[0], -1)), axis=1)
    return finite


def _add_scaled(
    leaves: Sequence[Leaf],
    norms: Norms,
    decide: Callable[[Array], Decision],
    enter: Array,
    sums: Sequence[Array],
) -> list[Array]:
    """Add the examples' scaled gradients to the sums."""
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
