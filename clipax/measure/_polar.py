"""Singular values cut by matrix products alone, for accelerators.

A decomposition is slow there: it takes thousands of small dependent steps, and on a GPU a branch
around it makes the host wait. Products of whole matrices are what an accelerator is built for. All
functions take stacks of matrices with at most as many rows as columns, and run the same number of
products whatever the matrices are: 17 polynomials of three products for a sign in float32 (33 in
float64), 23 squarings (52) for a largest singular value.

Products run at the highest precision. Errors are `eps N`, with the largest singular value `N`, and
what a clip keeps is below the threshold `c`: in the single bfloat16 pass that is a TPU's default
(`eps` 4e-3), or in a GPU's TF32 (5e-4), nothing would be left of it where a spike is some hundred
times the threshold. Three passes instead of six (`Precision.HIGH`, `eps` 8e-6) would do for most
gradients, but leave noise of length `c` in all directions at a spike of 1e5.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from clipax._typing import Array
from clipax.measure._matrices import per_matrix, scale_to_unit, widen
from clipax.measure._products import adjoint, product

__all__ = ["clamp", "clamp_measured", "largest_values", "orthogonalize"]

# Coefficients of x, x^3 and x^5.
GROW = (3.64, -8.16, 5.45)
"""The (almost) largest slope at zero among those that map [.5, 1.01] into [.5, 1].

A smaller lower end would gain little (slope 4.1 at .1), and lose digits of the large values.
"""
FINISH = (15 / 8, -10 / 8, 3 / 8)
"""Takes `1 - e` to `1 - 2.5 e^3`."""
CUT = (0.0, 5 / 2, -3 / 2)
"""Takes values above .82 to 1 and those below to 0."""


def clamp(stack: Array, norms: Array, limits: Array) -> tuple[Array, Array]:
    """Cut singular values.

    Args:
      stack: The matrices.
      norms: Their Euclidean norms; a matrix of norm 0 is left as it is.
      limits: The limits.

    Returns:
      The matrices, in the type in which to compute; and for each its largest singular value, or its
      norm where that is within the limit.
    """
    beyond = norms > limits
    largest = _measure(widen(stack, norms, beyond)[1], norms)
    return clamp_measured(stack, jnp.where(beyond, largest, norms), limits)


def clamp_measured(stack: Array, largest: Array, limits: Array) -> tuple[Array, Array]:
    """Cut singular values whose largest are known; as `clamp`."""
    beyond = largest > limits
    wide, large = widen(stack, largest, beyond)
    real = large.real.dtype
    # No infinite limit enters, which would give NaN times zero.
    bounds = jnp.where(beyond, limits, 1)
    clamped = _clamp(large, largest.astype(real), bounds.astype(real))
    return jnp.where(beyond[..., None, None], clamped, wide), largest


def largest_values(stack: Array, norms: Array) -> tuple[Array]:
    """Estimate the largest singular values, from below; 0 where the norm is.

    The relative error is at most `log(rows) / 2^(bits + 1)`, with the bits of the mantissa (23 or
    52), and rounding.
    """
    return (_measure(widen(stack, norms, norms > 0)[1], norms),)


def orthogonalize(stack: Array, norms: Array) -> tuple[Array, Array]:
    """Compute the factors `U V^H`, and sums of the singular values.

    Directions whose singular values are zero up to rounding are left out of the factor: there it
    would be arbitrary. It is a constant to derivatives.

    Args:
      stack: The matrices, in the type in which to compute.
      norms: Their Euclidean norms.
    """
    scaled, _, up = scale_to_unit(stack, norms.astype(stack.real.dtype))
    # Noise is up to .9 eps of the norm, whatever the shape (`benchmarks/NOTES.md`). Growth takes
    # 3 eps or more to .045, five polynomials that to .82, and the last ones to 1.
    growth = math.floor(math.log(0.045 / (3 * jnp.finfo(stack.dtype).eps), GROW[0]))
    table = [GROW] * growth + [FINISH] * 5 + [CUT] * 6
    factor = lax.stop_gradient(_iterate(scaled, table))
    sums = jnp.sum((jnp.conj(factor) * scaled).real, axis=(-2, -1))
    return factor, sums * up


def _measure(stack: Array, norms: Array) -> Array:
    """Estimate the largest singular values, in the type of the norms."""
    scaled, _, up = scale_to_unit(stack, norms.astype(stack.real.dtype))
    return (_largest(scaled) * up).astype(norms.dtype)


def _clamp(stack: Array, largest: Array, limits: Array) -> Array:
    """Compute `U min(S, c) V^H`.

    With the polar decomposition `A = P Q` and the projector `H = (1 + sign(P - c))/2` on the values
    above the limit, and `L = 1 - H`,

        U min(S, c) V^H = L A (1 - Q^H H Q) + c (1 - L^2) Q.

    A spike is projected out on both sides, and the error of the projector enters in second order.
    In `L A + c H Q` it is multiplied by the spike: 10 times the error (`benchmarks/NOTES.md`). A
    value that the sign cannot tell from the limit becomes a mean of the two.

    Args:
      stack: The matrices.
      largest: Their largest singular values, as estimated.
      limits: The limits `c`.
    """
    scaled, down, _ = scale_to_unit(stack, largest)
    bits = jnp.finfo(largest.dtype).nmant
    size = lax.stop_gradient(largest * down)
    unit = scaled / per_matrix(jnp.where(size > 0, size, 1), stack)
    # Values below `eps` of the largest are noise: cut there, and scale down what is left.
    limit = jnp.clip(limits * down / jnp.where(size > 0, size, 1), 2.0**-bits, 1)
    here = per_matrix(limit, stack)

    polar = _iterate(unit, _grow_and_finish(bits))
    part = product(unit, adjoint(polar))
    one = jnp.eye(stack.shape[-2], dtype=stack.dtype)
    sign = _iterate((part + adjoint(part)) / 2 - here * one, _grow_and_finish(bits))
    high, low = (one + sign) / 2, (one - sign) / 2
    kept = product(low, unit)
    inner = here * (high + product(high, low)) - product(product(kept, adjoint(polar)), high)
    cut = (kept + product(inner, polar)) / here
    # Rounding leaves values above the limit, by about `eps` of the largest of the gradient.
    over = lax.stop_gradient(jnp.maximum(_largest(cut), 1))
    return cut * per_matrix(limits / over, stack)


def _grow_and_finish(bits: int) -> list[tuple[float, float, float]]:
    """List the polynomials that take values from `2^-bits` to 1 up to exactly 1."""
    return [GROW] * math.ceil(bits / math.log2(GROW[0])) + [FINISH] * (4 if bits < 24 else 5)


def _iterate(stack: Array, table: list[tuple[float, float, float]]) -> Array:
    """Apply odd polynomials to the singular values, one after the other."""

    def step(stack: Array, row: Array) -> tuple[Array, None]:
        gram = product(stack, adjoint(stack))
        inner = row[1] * gram + row[2] * product(gram, gram)
        return row[0] * stack + product(inner, stack), None

    # A loop compiles as fast as one step. Its length is known: no host waits for its end.
    return lax.scan(step, stack, jnp.asarray(np.array(table), stack.dtype))[0]


def _largest(stack: Array) -> Array:
    """Estimate the largest singular values of matrices with norms near 1, or zero.

    It is the mean of the squares `s^2` with the weights `s^(2p)`, `p = 2^bits`. A power iteration
    would begin with a vector, which may be orthogonal to the one that is wanted, and takes `p`
    products for the same error.
    """
    gram = product(stack, adjoint(stack))
    bits = jnp.finfo(stack.dtype).nmant

    def normalize(matrix: Array) -> Array:
        size = jnp.sqrt(jnp.sum(jnp.square(jnp.abs(matrix)), axis=(-2, -1)))
        return matrix / per_matrix(jnp.where(size > 0, size, 1), matrix)

    def square(power: Array, _: None) -> tuple[Array, None]:
        power = product(power, power)
        return normalize((power + adjoint(power)) / 2), None

    power, _ = lax.scan(square, lax.stop_gradient(normalize(gram)), length=bits)
    weight = jnp.trace(power, axis1=-2, axis2=-1).real
    mean = jnp.sum((jnp.conj(power) * gram).real, axis=(-2, -1))
    return jnp.sqrt(jnp.where(weight > 0, mean / jnp.where(weight > 0, weight, 1), 0))
