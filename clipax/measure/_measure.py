"""Norms of a tree: with the modules beside it, the only code of the package that reduces one.

A gradient is read once for all the norms of a scope. Sums run in float32 or better, over leaves as
well as within them. Where a sum of squares overflows, or squares vanish, that of entries scaled by
a power of two is taken. A CPU then reads the tree again, and norms are exact over the whole range
of floats. GPUs and TPUs take two sums in one read: norms are exact from 1e-18 to the largest float.
What is not exact: subnormal entries count as zeros; on a CPU a block whose squares all vanish
(entries below 1e-19) beside larger ones counts as zero, on a TPU entries below 5e-29 do (a GPU
keeps some digits of subnormal squares); and on a GPU norms of units, and of what is computed as it
is read, have few digits below 1e-17.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from clipax import _platforms, scopes
from clipax._typing import Array, AxisName, Norms
from clipax.measure import _sums
from clipax.measure._again import shrink
from clipax.measure._gather import Layout, gather, lay_out
from clipax.measure._leaves import Leaf, accumulation_dtype, name_leaves, reduced_axes
from clipax.measure._mesh import Mesh
from clipax.measure._reads import Measurement, read_again, read_once, read_plain
from clipax.measure._scaled import sum_plain

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


class Derived(NamedTuple):
    """Values that are computed from arrays as they are read.

    Attributes:
      function: From `arrays` to the values; defined in a module, as `jit` caches by it.
      arrays: A tree of arrays.
      bounded: Whether no sum of squares can overflow: it is then taken as it is.
    """

    function: Callable[[Any], Sequence[Array]]
    arrays: Any
    bounded: bool = False


def measure(
    leaves: Sequence[Leaf],
    dtype: Any,
    *,
    axis_name: AxisName = None,
    params: Sequence[Array] | None = None,
    derived: Derived | None = None,
) -> Measurement:
    """Measure the Euclidean norms of the leaves' blocks.

    Args:
      leaves: The leaves that `name_leaves` returned.
      dtype: float32 or float64, the type in which to accumulate.
      axis_name: Mesh axes over which the leaves are sharded, inside `shard_map`.
      params: The parameters that belong to the leaves: a gradient that varies over a mesh axis over
        which its parameter does not is then refused.
      derived: The function and arrays that give the leaves' values, where these are not in memory:
        they are then computed as they are read, and never written.

    Raises:
      ValueError: Leaves with one label have different kept sizes, or (inside `shard_map`) mesh axes
        are not named or gradients not averaged.
    """
    if not leaves:
        return Measurement({}, None)
    values, layout = lay_out(leaves, axis_name, params)
    # Gathering would write derived values out.
    if derived is None:
        values, layout = gather(values, layout, dtype)
    function, arrays, bounded = derived or Derived(_identity, values)
    return _norms(arrays, function, layout, jnp.dtype(dtype), bounded)


def magnitudes(
    leaves: Sequence[Leaf],
    dtype: Any,
    order: Literal["max", "sum"],
    *,
    axis_name: AxisName = None,
) -> Norms:
    """Measure the largest magnitude of each block's entries, or the sum of all magnitudes.

    A block without entries has 0. NaN where an entry is; a sum may overflow to infinity.

    Args:
      leaves: The leaves that `name_leaves` returned.
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
    """Compute the norm of all blocks together; norms that are not finite count as zero."""
    finite = [jnp.where(jnp.isfinite(norm), norm, 0) for norm in norms]
    # In units of the largest: squares neither overflow nor vanish. Array by array, as they may be
    # sharded in different ways.
    largest = _sums.take_largest([jnp.max(norm, initial=0) for norm in finite])
    unit = jnp.where(largest > 0, largest, 1)
    squares = [jnp.sum(jnp.square(norm / unit)) for norm in finite]
    together = largest * _sums.take_root(_sums.add(squares))
    return jnp.minimum(together, jnp.finfo(together.dtype).max)


def count_entries(leaves: Sequence[Leaf], *, axis_name: AxisName = None) -> dict[str, int]:
    """Count the entries behind each norm of a label, over all shards."""
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


@partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3, 4))
def _norms(
    arrays: Any,
    function: Callable[[Any], Sequence[Array]],
    layout: Layout,
    dtype: Any,
    bounded: bool,
) -> Measurement:
    return _compute_norms(arrays, function, layout, dtype, bounded)


@_norms.defjvp
def _norms_jvp(
    function: Callable[[Any], Sequence[Array]],
    layout: Layout,
    dtype: Any,
    bounded: bool,
    primals: tuple[Any],
    tangents: tuple[Any],
) -> tuple[Measurement, Measurement]:
    """Differentiate the norms themselves: the squares behind them may overflow or vanish.

    The derivative at zero is zero.
    """
    norms = _norms(*primals, function, layout, dtype, bounded)
    values, changes = jax.jvp(function, primals, tangents)
    products = []
    for value, change, block in zip(values, changes, layout.blocks, strict=True):
        axes = reduced_axes(value.ndim, block)
        norm = jnp.expand_dims(norms.norms[block.label], axes)
        unit = jnp.where(norm == 0, 1, norm)
        # Both brought nearer to 1: the inverse of a norm of 1e38 is no normal number.
        scale = jnp.where(unit > 1, shrink(dtype), 1 / shrink(dtype)).astype(dtype)
        pairs = zip(_sums.split_complex(value), _sums.split_complex(change), strict=True)
        terms = [
            part.astype(dtype) * scale / (unit * scale) * shift.astype(dtype)
            for part, shift in pairs
        ]
        products.append(jnp.sum(sum(terms[1:], start=terms[0]), axes))
    moved = _sums.add_by_label(products, layout)
    labels = _single_labels(layout)
    stacked = _sums.stack([moved[label] for label in labels]) if labels else None
    return norms, Measurement(moved, stacked)


@partial(jax.jit, static_argnames=("function", "layout", "dtype", "bounded"), inline=True)
def _compute_norms(
    arrays: Any,
    function: Callable[[Any], Sequence[Array]],
    layout: Layout,
    dtype: Any,
    bounded: bool,
) -> Measurement:
    """Compute the norms under `jit`, so that a step outside of `jit` compiles them only once."""
    stacked = _single_labels(layout)
    cpu = gpu = tpu = partial(read_plain, _sums.sum_squares, function, layout, dtype, stacked)
    if bounded:
        gpu = partial(read_plain, sum_plain, function, layout, dtype, stacked)
    else:
        cpu = partial(read_again, function, layout, dtype, stacked)
        gpu = partial(read_once, function, layout, dtype, stacked, on_gpu=True)
        tpu = partial(read_once, function, layout, dtype, stacked, on_gpu=False)
    return _platforms.choose(arrays, cpu=cpu, gpu=gpu, tpu=tpu)


def _single_labels(layout: Layout) -> tuple[str, ...]:
    """List the labels that have one norm each, sorted, without excluded ones."""
    single = {block.label for block in layout.blocks if not block.keep and not block.excluded}
    return tuple(sorted(single))


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
    """Tell whether every entry of every leaf, on every named mesh axis, is finite."""
    mesh = Mesh.of([(leaf.path, leaf.value) for leaf in leaves], axis_name, None)
    if not leaves:
        return jnp.array(True)
    # An entry minus itself is zero if and only if the entry is finite: one read without a
    # temporary, where XLA for CPU writes out the answers of `isfinite`.
    zeros = [
        jnp.sum(part - part).astype(jnp.float32)
        for leaf in leaves
        for part in _sums.split_complex(leaf.value)
    ]
    return jnp.isfinite(mesh.psum(_sums.add(zeros)))
