"""Singular values cut by decompositions, on stacks of matrices along the last two axes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from clipax._typing import Array
from clipax.measure._leaves import wide_dtype
from clipax.measure._matrices import scale_to_unit, widen
from clipax.measure._products import adjoint, multiply, product

__all__ = ["clamp", "largest_values", "orthogonalize"]


def clamp(stack: Array, norms: Array, limits: Array) -> tuple[Array, Array]:
    """Cut singular values; as `_polar.clamp`."""
    beyond = norms > limits

    def cut() -> tuple[Array, Array]:
        wide, large = widen(stack, norms, beyond)
        real = large.real.dtype
        clamped, largest = _clamp(large, norms.astype(real), limits.astype(real))
        largest = jnp.where(beyond, largest.astype(norms.dtype), norms)
        return jnp.where((largest > limits)[..., None, None], clamped, wide), largest

    def leave() -> tuple[Array, Array]:
        return stack.astype(wide_dtype(stack.dtype, norms.dtype)), norms

    return lax.cond(jnp.any(beyond), cut, leave)


def largest_values(stack: Array, norms: Array) -> tuple[Array]:
    """Compute the largest singular values; 0 where the norm is."""
    _, large = widen(stack, norms, norms > 0)
    scaled, _, up = scale_to_unit(large, norms.astype(large.real.dtype))
    values = jnp.linalg.svd(scaled, compute_uv=False)
    return ((values[..., 0] * up).astype(norms.dtype),)


def orthogonalize(stack: Array, norms: Array) -> tuple[Array, Array]:
    """Compute factors `U V^H` and sums of singular values; as `_polar.orthogonalize`."""
    left, values, right = _decompose(stack, norms.astype(stack.real.dtype))
    # The tolerance of `numpy.linalg.matrix_rank`.
    noise = values[..., :1] * (jnp.finfo(values.dtype).eps * max(stack.shape[-2:]))
    counts = (values > noise).astype(stack.dtype)
    factor = product(left * counts[..., None, :], right)
    return lax.stop_gradient(factor), jnp.sum(values, axis=-1)


@jax.custom_jvp
def _clamp(stack: Array, norms: Array, limits: Array) -> tuple[Array, Array]:
    """Compute `U min(S, c) V^H` and the largest of `S`, for matrices along the last two axes."""
    left, values, right = _decompose(stack, norms)
    cut = jnp.minimum(values, limits[..., None]).astype(stack.dtype)
    return product(left * cut[..., None, :], right), values[..., 0]


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

    def pairs(numbers: Array) -> tuple[Array, Array]:
        return numbers[..., :, None], numbers[..., None, :]

    (first, second), (cut_first, cut_second) = pairs(values), pairs(cut)
    same_side = jnp.equal(*pairs(within))
    slope = (cut_first - cut_second) / jnp.where(same_side, 1, first - second)
    slope = jnp.where(same_side, pairs(within)[0].astype(values.dtype), slope)
    total = first + second
    mean = jnp.where(total > 0, (cut_first + cut_second) / jnp.where(total > 0, total, 1), 1)

    seen = multiply(adjoint(left), change)
    core = multiply(seen, adjoint(right))
    other = adjoint(core)
    inner = (slope * (core + other) + mean * (core - other)) / 2
    # The part of the derivative that comes from the limit.
    moved = jnp.where(within, 0, shift[..., None]).astype(stack.dtype)
    inner += moved[..., None] * jnp.eye(values.shape[-1], dtype=stack.dtype)
    weight = ratio.astype(stack.dtype)
    beside_right = left * weight[..., None, :]
    beside_left = weight[..., None] * right
    outside = multiply(change - multiply(left, seen), adjoint(right))
    tangent = (
        multiply(multiply(left, inner), right)
        + multiply(outside, beside_left)
        + multiply(beside_right, seen - multiply(core, right))
    )
    cut_matrix = product(left * cut.astype(stack.dtype)[..., None, :], right)
    return (cut_matrix, values[..., 0]), (tangent, core[..., 0, 0].real)


def _decompose(stack: Array, norms: Array) -> tuple[Array, Array, Array]:
    """Decompose matrices scaled to norms near 1: not every library's `svd` scales by itself."""
    scaled, _, up = scale_to_unit(stack, norms)
    left, values, right = jnp.linalg.svd(scaled, full_matrices=False)
    return left, values * up[..., None], right
