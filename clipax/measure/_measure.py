"""Norms of a tree: with the modules beside it, the only code of the package that reduces one.

A gradient is read once for all the norms of a scope. Sums run in float32 or better, over leaves as
well as within them. Only where the total of squares overflows is the tree read again, scaled by a
power of two, so that norms up to the largest float are exact.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from clipax import scopes
from clipax._typing import Array, AxisName, Norms
from clipax.measure import _sums
from clipax.measure._gather import Layout, gather, lay_out
from clipax.measure._leaves import Leaf, accumulation_dtype, name_leaves, reduced_axes
from clipax.measure._mesh import Mesh
from clipax.measure._overflow import rescaled_square_sums, rescaling

__all__ = [
    "Derived",
    "Measurement",
    "all_finite",
    "combine_norms",
    "count_entries",
    "global_norm",
    "magnitudes",
    "measure",
]


class Measurement(NamedTuple):
    """What was measured of a tree.

    Attributes:
      norms: By label; an array's axes are the axes that its block keeps.
      stacked: Those of labels that have one norm each once more, as a vector sorted by label,
        without excluded ones; None where there is no such label. Stacked from the sums: what is
        stacked later is worked out once more in the program that stacks.
    """

    norms: Norms
    stacked: Array | None


class Derived(NamedTuple):
    """Values that are computed from arrays where they are used.

    Attributes:
      function: From `arrays` to the values; a function of a module, by which results are cached.
      arrays: A tree of arrays.
    """

    function: Callable[[Any], Sequence[Array]]
    arrays: Any


def measure(
    leaves: Sequence[Leaf],
    dtype: Any,
    *,
    axis_name: AxisName = None,
    params: Sequence[Array] | None = None,
    derived: Derived | None = None,
) -> Measurement:
    """The Euclidean norms of the leaves' blocks.

    Args:
      leaves: What `name_leaves` returned.
      dtype: float32 or float64, the type in which to accumulate.
      axis_name: Mesh axes over which the leaves are sharded, inside `shard_map`.
      params: The parameters that belong to the leaves: a gradient that varies over a mesh axis over
        which its parameter does not is then refused.
      derived: How the leaves' values come from arrays in memory, where they do not lie there
        themselves: they are then computed as they are read, and never written.

    Raises:
      ValueError: Leaves with one label have different kept sizes, or (inside `shard_map`) mesh axes
        are not named or gradients not averaged.
    """
    if not leaves:
        return Measurement({}, None)
    values, layout = lay_out(leaves, axis_name, params)
    # What is computed as it is read is not written to be gathered.
    if derived is None:
        values, layout = gather(values, layout, dtype)
    function, arrays = derived or (_identity, values)
    return _norms(arrays, function, layout, jnp.dtype(dtype))


def magnitudes(
    leaves: Sequence[Leaf],
    dtype: Any,
    order: Literal["max", "sum"],
    *,
    axis_name: AxisName = None,
) -> Norms:
    """The largest magnitude of each block's entries, or the sum of all: the norms beside Euclid's.

    A block without entries has 0. NaN where an entry is; a sum may overflow to infinity.

    Args:
      leaves: What `name_leaves` returned.
      dtype: float32 or float64, the type in which to accumulate.
      order: `"max"` or `"sum"`.
      axis_name: As for `measure`.
    """
    if not leaves:
        return {}
    greatest = order == "max"

    def reduce(value: Array, axes: tuple[int, ...]) -> Array:
        sizes = jnp.abs(value).astype(dtype)
        return jnp.max(sizes, axes, initial=0) if greatest else jnp.sum(sizes, axes)

    values, layout = lay_out(leaves, axis_name, None)
    return _sums.add_by_label(_sums.reduce_each(reduce, values, layout), layout, greatest=greatest)


def combine_norms(norms: Sequence[Array]) -> Array:
    """The norm of all blocks together; blocks that are not finite count as zero."""
    finite = [jnp.where(jnp.isfinite(one), one, 0) for one in norms]
    # In units of the largest: squares neither overflow nor vanish. Array by array, as they may be
    # sharded in different ways.
    largest = _sums.largest([jnp.max(one, initial=0) for one in finite])
    unit = jnp.where(largest > 0, largest, 1)
    squares = [jnp.sum(jnp.square(one / unit)) for one in finite]
    together = largest * _sums.root(_sums.total(squares))
    return jnp.minimum(together, jnp.finfo(together.dtype).max)


def count_entries(leaves: Sequence[Leaf], *, axis_name: AxisName = None) -> dict[str, int]:
    """Number of entries behind each norm of a label, over all shards."""
    if not leaves:
        return {}
    values, layout = lay_out(leaves, axis_name, None)
    sizes: Counter[str] = Counter()
    for value, block, shared in zip(values, layout.blocks, layout.copies, strict=True):
        entries = math.prod(value.shape[axis] for axis in reduced_axes(value.ndim, block))
        sizes[block.label] += entries * layout.mesh.devices() // shared
    return dict(sizes)


def _identity(values: Sequence[Array]) -> Sequence[Array]:
    return values


@partial(jax.jit, static_argnames=("function", "layout", "dtype"), inline=True)
def _norms(
    arrays: Any, function: Callable[[Any], Sequence[Array]], layout: Layout, dtype: Any
) -> Measurement:
    """The norms, compiled as one piece: a step that is not compiled is cached too."""
    squares = _sums.square_sums(function(arrays), layout, dtype)
    single = {block.label for block in layout.blocks if not block.keep and not block.excluded}
    labels = sorted(single & squares.keys())

    def stack(values: Norms) -> Array | None:
        return _sums.stack([values[label] for label in labels]) if labels else None

    def plain() -> Measurement:
        return Measurement(jax.tree.map(_sums.root, squares), jax.tree.map(_sums.root, stacked))

    def rescaled() -> Measurement:
        # Computed inside the branch: what enters one has to be written out.
        again = rescaled_square_sums(function(arrays), layout, dtype)
        norms = {}
        for label, square in squares.items():
            over = jnp.isinf(square)
            # One root, of the chosen square: the derivative of an infinite one is not a number.
            norms[label] = _sums.root(jnp.where(over, again[label], square))
            norms[label] *= jnp.where(over, 1 / rescaling(dtype), 1).astype(dtype)
        return Measurement(norms, stack(norms))

    stacked = stack(squares)
    # The predicate is on the total, and on overflow (or NaN, which would hide one) alone: blocks
    # that are exactly zero never trigger the second read. Behind a barrier a total of units is that
    # of their sums: XLA would sum up the entries once more, and write out their squares for both.
    units = [square for label, square in squares.items() if label not in single]
    parts = [jnp.sum(lax.optimization_barrier(square)) for square in units]
    total = _sums.total(parts if stacked is None else [jnp.sum(stacked), *parts])
    return lax.cond(~jnp.isfinite(total), rescaled, plain)


def global_norm(tree: Any, *, axis_name: AxisName = None) -> Array:
    """Compute the Euclidean norm of a tree, in float32 or better and safe from overflow.

    Args:
      tree: A tree of floating-point or complex arrays.
      axis_name: As for `scale_by_norm`.

    Returns:
      A scalar: float64 if any leaf is double precision, else float32. Its derivative at an all-zero
      tree is 0.

    Raises:
      TypeError: A leaf is not of a floating-point or complex type.
      ValueError: Inside `shard_map`, the mesh axes are not named.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> print(clipax.global_norm({"a": jnp.array([3e30]), "b": jnp.array(4e30)}))
      5e+30
    """
    leaves, _ = name_leaves(tree, scopes.resolve(scopes.GLOBAL))
    dtype = accumulation_dtype([leaf.value.dtype for leaf in leaves])
    norms, _ = measure(leaves, dtype, axis_name=axis_name)
    return norms.get(scopes.GLOBAL, jnp.zeros((), dtype))


def all_finite(leaves: Sequence[Leaf], *, axis_name: AxisName = None) -> Array:
    """Whether every entry of every leaf, on every named mesh axis, is finite."""
    mesh = Mesh.of([(leaf.path, leaf.value) for leaf in leaves], axis_name, None)
    if not leaves:
        return jnp.array(True)
    # An entry minus itself is zero if and only if the entry is finite: one read without a
    # temporary, where XLA for CPU writes out the answers of `isfinite`.
    zeros = [
        jnp.sum(part - part).astype(jnp.float32)
        for leaf in leaves
        for part in _sums.parts(leaf.value)
    ]
    return jnp.isfinite(mesh.psum(_sums.total(zeros)))
