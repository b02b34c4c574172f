"""Products of float32 matrices to float32's precision, on every platform."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from clipax import _platforms
from clipax._typing import Array

__all__ = ["adjoint", "multiply", "multiply_in_passes", "product"]


def product(first: Array, second: Array) -> Array:
    """Multiply matrices at the highest precision of the device."""
    return _product(first, second) if first.dtype == jnp.float32 else multiply(first, second)


def adjoint(stack: Array) -> Array:
    """Transpose matrices, and conjugate complex ones."""
    return jnp.conj(jnp.swapaxes(stack, -1, -2))


@jax.custom_jvp
def _product(first: Array, second: Array) -> Array:
    return _platforms.choose(first, second, cpu=multiply, gpu=multiply, tpu=multiply_in_passes)


@_product.defjvp
def _product_jvp(primals: Any, tangents: Any) -> Any:
    # By the plain product: a derivative of the passes would be a derivative of roundings.
    (first, second), (change, shift) = primals, tangents
    return multiply(first, second), multiply(change, second) + multiply(first, shift)


def multiply(first: Array, second: Array) -> Array:
    """Multiply by one product of XLA's: a linear function, as derivatives must be made of."""
    return jnp.matmul(first, second, precision=lax.Precision.HIGHEST)


def multiply_in_passes(first: Array, second: Array) -> Array:
    """Multiply as XLA does on a TPU at the highest precision, in a loop.

    A factor is the sum of three parts in bfloat16, and the six products that are not below
    float32's precision are added, small ones first. XLA writes its six passes out: in a loop over
    polynomials that takes 7 seconds a product to compile, and .8 this way (`benchmarks/NOTES.md`).
    """
    firsts, seconds = _split(first), _split(second)

    def add(total: Array, pair: Array) -> tuple[Array, None]:
        parts = firsts[pair[0]], seconds[pair[1]]
        return total + jnp.matmul(*parts, preferred_element_type=jnp.float32), None

    start = jnp.zeros_like(multiply(first, second))
    order = np.array([[2, 0], [1, 1], [0, 2], [1, 0], [0, 1], [0, 0]])
    return lax.scan(add, start, jnp.asarray(order))[0]


def _split(matrix: Array) -> Array:
    """Split numbers into three of bfloat16 with their sum."""
    parts = []
    for _ in range(3):
        # No cast back and forth: XLA may leave out both.
        part = lax.reduce_precision(matrix, exponent_bits=8, mantissa_bits=7)
        matrix = matrix - part
        parts.append(part.astype(jnp.bfloat16))
    return jnp.stack(parts)
