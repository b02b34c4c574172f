"""Singular values of leaves: by decompositions (`_svd`), or by matrix products alone (`_polar`).

Both do the same for a stack of matrices. A decomposition is taken leaf by leaf, and only where one
is needed. Products run for all matrices of a shape together, transposed where there are more rows
than columns: one chain of products a shape, however many leaves there are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from clipax import _platforms
from clipax._compat import varying_axes
from clipax._typing import Array, AxisName
from clipax.measure import _polar, _svd
from clipax.measure._gather import lay_out
from clipax.measure._leaves import Leaf
from clipax.measure._matrices import from_matrices, to_matrices

__all__ = [
    "Method",
    "clamp_singular_values",
    "largest_singular_values",
    "polar_factors",
]

Method = Literal["auto", "svd", "polar"]
"""`"auto"`: `"svd"` in programs for the CPU, `"polar"` elsewhere."""

LARGE = 2**18
"""Entries of a matrix that fills an accelerator by itself. In a loop over matrices the temporaries
are those of one of them, and XLA for TPU compiles 3 to 5 times as fast as for a batch
(`benchmarks/NOTES.md`)."""

OnStack = Callable[..., tuple[Array, ...]]
"""From a stack, and arrays of one number a matrix, to arrays like either."""


def clamp_singular_values(
    leaves: Sequence[Leaf],
    norms: Sequence[Array],
    limits: Sequence[Array],
    *,
    method: Method,
    axis_name: AxisName,
    measured: bool = False,
) -> list[tuple[Array, Array]]:
    """Cut the singular values of the leaves' matrices, at a limit for each matrix.

    Args:
      leaves: The leaves, all of them matrices as `is_matrix` tells.
      norms: For each leaf the Euclidean norms of its matrices, of the kept axes' shape; 0 leaves a
        matrix as it is.
      limits: The limits, likewise.
      method: As for `clip_by_singular_values`.
      axis_name: As for `measure`.
      measured: Whether `norms` are the largest singular values.

    Returns:
      For each leaf its value, in the type in which to compute; and for each matrix its largest
      singular value, or its norm where that is within the limit.
    """
    by_products = _polar.clamp_measured if measured else _polar.clamp
    return _run_all(leaves, (norms, limits), _svd.clamp, by_products, method, axis_name)


def largest_singular_values(
    leaves: Sequence[Leaf], norms: Sequence[Array], *, method: Method, axis_name: AxisName
) -> list[Array]:
    """Measure the largest singular value of every matrix; arguments as above."""
    functions = _svd.largest_values, _polar.largest_values
    return [largest for (largest,) in _run_all(leaves, (norms,), *functions, method, axis_name)]


def polar_factors(
    leaves: Sequence[Leaf], norms: Sequence[Array], *, method: Method, axis_name: AxisName
) -> list[tuple[Array, Array]]:
    """Compute the orthogonal factors of the leaves' matrices, and the sums of singular values.

    Directions whose singular values are zero up to rounding are left out of the factor: there it
    would be arbitrary. It is a constant to derivatives.
    """
    functions = _svd.orthogonalize, _polar.orthogonalize
    return _run_all(leaves, (norms,), *functions, method, axis_name)


def _run_all(
    leaves: Sequence[Leaf],
    columns: tuple[Sequence[Array], ...],
    by_svd: OnStack,
    by_products: OnStack,
    method: Method,
    axis_name: AxisName,
) -> list[Any]:
    """Run one of the functions on the matrices of all leaves."""
    if not leaves:
        return []
    values, layout = lay_out(leaves, axis_name, None)
    keeps = tuple(block.keep for block in layout.blocks)
    numbers = tuple(list(column) for column in columns)
    return _run(values, numbers, keeps, layout.whole, by_svd, by_products, method)


@partial(
    jax.jit,
    static_argnames=("keeps", "whole", "by_svd", "by_products", "method"),
    inline=True,
)
def _run(
    values: list[Array],
    columns: tuple[list[Array], ...],
    keeps: tuple[tuple[int, ...], ...],
    whole: tuple[bool, ...],
    by_svd: OnStack,
    by_products: OnStack,
    method: Method,
) -> list[Any]:
    """Run under `jit`, so that a step outside of `jit` compiles it only once."""

    def decompose(values: list[Array], columns: tuple[list[Array], ...]) -> list[Any]:
        results = []
        for value, keep, *numbers in zip(values, keeps, *columns, strict=True):
            stack = to_matrices(value, keep)
            results.append(_restore(by_svd(stack, *numbers), stack, value, keep))
        return results

    def multiply(values: list[Array], columns: tuple[list[Array], ...]) -> list[Any]:
        stacks = [to_matrices(*pair) for pair in zip(values, keeps, strict=True)]
        results: dict[int, tuple[Array, ...]] = {}
        for places in _group(stacks, whole):
            operands = [
                (_turn(stacks[place]), *(column[place] for column in columns)) for place in places
            ]
            rows = _run_together(by_products, operands, whole=whole[places[0]])
            for place, row in zip(places, rows, strict=True):
                results[place] = _restore(row, stacks[place], values[place], keeps[place])
        return [results[place] for place in range(len(values))]

    if method == "auto":
        return _platforms.choose(values, columns, cpu=decompose, gpu=multiply, tpu=multiply)
    return (decompose if method == "svd" else multiply)(values, columns)


def _group(stacks: Sequence[Array], whole: Sequence[bool]) -> list[list[int]]:
    """Find the stacks that can be joined: of one shape, and on one device."""
    groups: dict[Any, list[int]] = {}
    for place, stack in enumerate(stacks):
        kind = (_turn(stack).shape[-2:], stack.dtype, varying_axes(stack))
        key = kind if whole[place] else place
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def _run_together(
    function: OnStack, operands: Sequence[tuple[Array, ...]], *, whole: bool
) -> list[tuple[Array, ...]]:
    """Run a function on all stacks, with their numbers: small matrices at once, large in a loop."""
    first = operands[0][0]
    large = math.prod(first.shape[-2:]) >= LARGE
    if len(operands) == 1 and (first.ndim == 2 or not large or not whole):
        return [function(*operands[0])]
    leads = [numbers[0].shape for _, *numbers in operands]
    sizes = [math.prod(lead) for lead in leads]

    def join(arrays: Sequence[Array]) -> Array:
        pairs = zip(arrays, leads, strict=True)
        return jnp.concatenate(
            [array.reshape(-1, *array.shape[len(lead) :]) for array, lead in pairs]
        )

    def part(array: Array) -> list[Array]:
        pieces = jnp.split(array, list(itertools.accumulate(sizes))[:-1])
        pairs = zip(pieces, leads, strict=True)
        return [piece.reshape(*lead, *piece.shape[1:]) for piece, lead in pairs]

    joined = tuple(join(column) for column in zip(*operands, strict=True))
    outputs = lax.map(lambda row: function(*row), joined) if large else function(*joined)
    return list(zip(*map(part, outputs), strict=True))


def _turn(stack: Array) -> Array:
    """Transpose matrices with more rows than columns."""
    rows, columns = stack.shape[-2:]
    return jnp.swapaxes(stack, -1, -2) if rows > columns else stack


def _restore(
    outputs: tuple[Array, ...], stack: Array, value: Array, keep: tuple[int, ...]
) -> tuple[Array, ...]:
    """Make leaves of the matrices among the outputs, as `value` was before it became the stack."""

    def back(output: Array) -> Array:
        if output.ndim < stack.ndim:
            return output
        turned = output.shape != stack.shape
        return from_matrices(jnp.swapaxes(output, -1, -2) if turned else output, value, keep)

    return tuple(map(back, outputs))
