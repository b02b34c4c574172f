"""Leaves as matrices, stacked along their last two axes.

Only whole matrices can be decomposed: a device that holds a part of one knows nothing of the
singular values of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from clipax._typing import Array, AxisName
from clipax.measure._leaves import Leaf, wide_dtype
from clipax.measure._mesh import Mesh

__all__ = [
    "from_matrices",
    "is_matrix",
    "per_matrix",
    "refuse_parts",
    "scale_to_unit",
    "to_matrices",
    "widen",
]


def is_matrix(leaf: Leaf) -> bool:
    """Tell whether a block of the leaf has more than one singular value."""
    rows, columns = _shape(leaf.value.shape, leaf.block.keep)
    return leaf.value.size > 0 and min(rows, columns) > 1


def refuse_parts(leaves: Sequence[Leaf], axis_name: AxisName) -> None:
    """Raise where a label holds several leaves, or a device only a part of a matrix.

    Raises:
      ValueError: Two leaves share a label, or (inside `shard_map`) a matrix varies over a mesh
        axis.
    """
    owners: dict[str, str] = {}
    for leaf in leaves:
        other = owners.setdefault(leaf.block.label, leaf.path)
        if other != leaf.path:
            raise ValueError(
                f"`scope` must give each leaf a label of its own, as singular values are those of "
                f"one matrix; {other!r} and {leaf.path!r} share {leaf.block.label!r}."
            )
    if axis_name == ():
        return
    mesh = Mesh.of([(leaf.path, leaf.value) for leaf in leaves], axis_name, None)
    for leaf in leaves:
        whole = mesh.copies(leaf.path, leaf.value) == mesh.devices()
        # Count axes, not rows: a shard of one row may be part of a matrix.
        reduced = leaf.value.ndim - len(leaf.block.keep)
        if not whole and reduced > 1 and not leaf.block.excluded:
            raise ValueError(
                f"A matrix must be whole to be decomposed, {leaf.path!r} is sharded over mesh axes "
                f"of {axis_name!r}. Gather it (`jax.lax.all_gather`), call the update under plain "
                f"`jit`, or leave the leaf out with `clipax.scopes.exclude`; where all shards hold "
                f"whole matrices (a stack of layers) say `axis_name=()`."
            )


def to_matrices(value: Array, keep: tuple[int, ...]) -> Array:
    """Reshape a leaf to matrices along the last two axes, behind the kept ones."""
    kept, reduced = _split(value.ndim, keep)
    placed = jax.typeof(value).sharding
    if any(placed.spec[axis] for axis in reduced):
        # With explicit axes we gather the matrix; elsewhere the compiler does.
        spec = PartitionSpec(
            *(placed.spec[axis] if axis in kept else None for axis in range(value.ndim))
        )
        value = jax.sharding.reshard(value, NamedSharding(placed.mesh, spec))
    lead = tuple(value.shape[axis] for axis in kept)
    return jnp.transpose(value, kept + reduced).reshape(*lead, *_shape(value.shape, keep))


def from_matrices(stack: Array, like: Array, keep: tuple[int, ...]) -> Array:
    """Invert `to_matrices`: a leaf shaped and sharded as `like`."""
    kept, reduced = _split(like.ndim, keep)
    order = kept + reduced
    back = sorted(range(len(order)), key=order.__getitem__)
    leaf = jnp.transpose(stack.reshape([like.shape[axis] for axis in order]), back)
    placed = jax.typeof(like).sharding
    return jax.sharding.reshard(leaf, placed) if any(placed.spec) else leaf


def widen(stack: Array, norms: Array, where: Array) -> tuple[Array, Array]:
    """Cast matrices to the type in which to compute with them.

    Args:
      stack: The matrices.
      norms: One number a matrix, of the type of norms.
      where: Which of them need a computation. Not those that are within their limits; nor those
        that are not finite, whose norms are given as 0.

    Returns:
      All of them; and with the others set to zero.
    """
    wide = stack.astype(wide_dtype(stack.dtype, norms.dtype))
    return wide, jnp.where(where[..., None, None], wide, 0)


def scale_to_unit(stack: Array, norms: Array) -> tuple[Array, Array, Array]:
    """Scale matrices by powers of two, to norms between 1/2 and 1.

    Returns:
      The scaled matrices, the factors that did it, and their inverses.
    """
    exponent = jnp.clip(jnp.frexp(norms)[1], -126, 126)
    unit = jnp.ones_like(norms)
    down, up = jnp.ldexp(unit, -exponent), jnp.ldexp(unit, exponent)
    return stack * per_matrix(down, stack), down, up


def per_matrix(numbers: Array, stack: Array) -> Array:
    """Shape one number a matrix, in the stack's type, to broadcast against it."""
    return numbers[..., None, None].astype(stack.dtype)


def _split(ndim: int, keep: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split the axes into kept and reduced ones."""
    return keep, tuple(axis for axis in range(ndim) if axis not in keep)


def _shape(shape: tuple[int, ...], keep: tuple[int, ...]) -> tuple[int, int]:
    """Count rows and columns of a block: the last of its axes is that of the columns."""
    sizes = [shape[axis] for axis in _split(len(shape), keep)[1]]
    return math.prod(sizes[:-1]), sizes[-1] if sizes else 1
