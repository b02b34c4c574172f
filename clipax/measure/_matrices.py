"""Leaves as matrices, and their singular values.

Only whole matrices can be decomposed: a device that holds a part of one knows nothing of the
singular values of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from clipax._typing import Array, AxisName
from clipax.measure._leaves import Leaf, wide_dtype
from clipax.measure._mesh import Mesh

__all__ = ["clamp_singular_values", "is_matrix", "polar_factor", "refuse_parts"]


def is_matrix(leaf: Leaf) -> bool:
    """Whether a block of the leaf has more than one singular value."""
    rows, columns = _shape(leaf.value.shape, leaf.block.keep)
    return leaf.value.size > 0 and min(rows, columns) > 1


def refuse_parts(leaves: Sequence[Leaf], axis_name: AxisName) -> None:
    """Raises where a label holds several leaves, or a device only a part of a matrix.

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
        # A shard of one row may be part of a matrix: what counts is the number of axes.
        reduced = leaf.value.ndim - len(leaf.block.keep)
        if not whole and reduced > 1 and not leaf.block.excluded:
            raise ValueError(
                f"A matrix must be whole to be decomposed, {leaf.path!r} is sharded over mesh axes "
                f"of {axis_name!r}. Gather it (`jax.lax.all_gather`), call the update under plain "
                f"`jit`, or leave the leaf out with `clipax.scopes.exclude`; where all shards hold "
                f"whole matrices (a stack of layers) say `axis_name=()`."
            )


@partial(jax.jit, static_argnames=("keep",), inline=True)
def clamp_singular_values(
    value: Array, norms: Array, limits: Array, keep: tuple[int, ...]
) -> tuple[Array, Array]:
    """Cuts the singular values of a leaf's matrices at limits, one for each.

    Args:
      value: The leaf.
      norms: The matrices' Euclidean norms, of the kept axes' shape; 0 for what is to be left alone.
      limits: The limits, likewise.
      keep: The axes over which matrices are stacked.

    Returns:
      The leaf, in the type in which to compute; and for each matrix its largest singular value, or
      its norm where that is within the limit, so that there is nothing to decompose.
    """
    dtype = wide_dtype(value.dtype, norms.dtype)
    beyond = norms > limits

    def cut() -> tuple[Array, Array]:
        stack = _to_matrices(value.astype(dtype), keep)
        # Zero where a matrix of the stack is within, or not finite.
        own = jnp.where(beyond[..., None, None], stack, 0)
        real = own.real.dtype
        clamped, largest = _clamp(own, norms.astype(real), limits.astype(real))
        largest = jnp.where(beyond, largest.astype(norms.dtype), norms)
        over = largest > limits
        result = jnp.where(over[..., None, None], clamped, stack)
        return _from_matrices(result, value, keep), largest

    def leave() -> tuple[Array, Array]:
        return value.astype(dtype), norms

    return lax.cond(jnp.any(beyond), cut, leave)


@partial(jax.jit, static_argnames=("keep",), inline=True)
def polar_factor(value: Array, norms: Array, keep: tuple[int, ...]) -> tuple[Array, Array]:
    """The orthogonal factors of a leaf's matrices, and all their singular values.

    Singular values that are zero up to rounding are left out of the factor: there it would be
    arbitrary. It is a constant to derivatives.

    Args:
      value: The leaf, in the type in which to compute.
      norms: As for `clamp_singular_values`.
      keep: As for `clamp_singular_values`.
    """
    stack = _to_matrices(value, keep)
    left, values, right = _decompose(stack, norms.astype(stack.real.dtype))
    # As the numerical rank is counted.
    noise = values[..., :1] * (jnp.finfo(values.dtype).eps * max(stack.shape[-2:]))
    ones = (values > noise).astype(stack.dtype)
    factor = _product(left * ones[..., None, :], right)
    return _from_matrices(lax.stop_gradient(factor), value, keep), values


@jax.custom_jvp
def _clamp(stack: Array, norms: Array, limits: Array) -> tuple[Array, Array]:
    """`U min(S, c) V^H` and the largest of `S`, for matrices along the last two axes."""
    left, values, right = _decompose(stack, norms)
    cut = jnp.minimum(values, limits[..., None]).astype(stack.dtype)
    return _product(left * cut[..., None, :], right), values[..., 0]


@_clamp.defjvp
def _clamp_jvp(primals: Any, tangents: Any) -> Any:
    # The derivative of the decomposition is infinite where two singular values are equal. That of
    # the clamped matrix is not: it takes divided differences of min(s, c) between singular values.
    stack, norms, limits = primals
    change, _, shift = tangents
    left, values, right = _decompose(stack, norms)
    limit = limits[..., None]
    within = values <= limit
    cut = jnp.minimum(values, limit)
    ratio = jnp.where(within, 1, cut / jnp.where(within, 1, values))

    def pairs(one: Array) -> tuple[Array, Array]:
        return one[..., :, None], one[..., None, :]

    (first, second), (cut_first, cut_second) = pairs(values), pairs(cut)
    same_side = jnp.equal(*pairs(within))
    slope = (cut_first - cut_second) / jnp.where(same_side, 1, first - second)
    slope = jnp.where(same_side, pairs(within)[0].astype(values.dtype), slope)
    total = first + second
    mean = jnp.where(total > 0, (cut_first + cut_second) / jnp.where(total > 0, total, 1), 1)

    seen = _product(_adjoint(left), change)
    core = _product(seen, _adjoint(right))
    other = _adjoint(core)
    inner = (slope * (core + other) + mean * (core - other)) / 2
    # What moves with the limit itself.
    moved = jnp.where(within, 0, shift[..., None]).astype(stack.dtype)
    inner += moved[..., None] * jnp.eye(values.shape[-1], dtype=stack.dtype)
    weight = ratio.astype(stack.dtype)
    beside_right = left * weight[..., None, :]
    beside_left = weight[..., None] * right
    outside = _product(change - _product(left, seen), _adjoint(right))
    tangent = (
        _product(_product(left, inner), right)
        + _product(outside, beside_left)
        + _product(beside_right, seen - _product(core, right))
    )
    cut_matrix = _product(left * cut.astype(stack.dtype)[..., None, :], right)
    return (cut_matrix, values[..., 0]), (tangent, core[..., 0, 0].real)


def _decompose(stack: Array, norms: Array) -> tuple[Array, Array, Array]:
    """The singular value decomposition, near one in size: not every library scales by itself."""
    exponent = jnp.clip(jnp.frexp(norms)[1], -126, 126)
    one = jnp.ones_like(norms)
    down, up = jnp.ldexp(one, -exponent), jnp.ldexp(one, exponent)
    scaled = stack * down[..., None, None].astype(stack.dtype)
    left, values, right = jnp.linalg.svd(scaled, full_matrices=False)
    return left, values * up[..., None], right


def _product(first: Array, second: Array) -> Array:
    return jnp.matmul(first, second, precision=lax.Precision.HIGHEST)


def _adjoint(stack: Array) -> Array:
    return jnp.conj(jnp.swapaxes(stack, -1, -2))


def _split(ndim: int, keep: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return keep, tuple(axis for axis in range(ndim) if axis not in keep)


def _shape(shape: tuple[int, ...], keep: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a block: of its axes the last one is that of the columns."""
    sizes = [shape[axis] for axis in _split(len(shape), keep)[1]]
    return math.prod(sizes[:-1]), sizes[-1] if sizes else 1


def _to_matrices(value: Array, keep: tuple[int, ...]) -> Array:
    """The matrices of a leaf along the last two axes, behind the kept ones."""
    kept, reduced = _split(value.ndim, keep)
    placed = jax.typeof(value).sharding
    if any(placed.spec[axis] for axis in reduced):
        # On a mesh of explicit axes: elsewhere the compiler gathers a matrix by itself.
        spec = PartitionSpec(
            *(placed.spec[axis] if axis in kept else None for axis in range(value.ndim))
        )
        value = jax.sharding.reshard(value, NamedSharding(placed.mesh, spec))
    lead = tuple(value.shape[axis] for axis in kept)
    return jnp.transpose(value, kept + reduced).reshape(*lead, *_shape(value.shape, keep))


def _from_matrices(stack: Array, like: Array, keep: tuple[int, ...]) -> Array:
    """The leaf whose matrices those are, shaped and sharded as another."""
    kept, reduced = _split(like.ndim, keep)
    order = kept + reduced
    back = sorted(range(len(order)), key=order.__getitem__)
    leaf = jnp.transpose(stack.reshape([like.shape[axis] for axis in order]), back)
    placed = jax.typeof(like).sharding
    return jax.sharding.reshard(leaf, placed) if any(placed.spec) else leaf
