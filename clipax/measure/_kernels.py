"""Sums of several terms of each array, with the fewest kernels that a GPU has to launch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from clipax._typing import Array
from clipax.measure import _sums
from clipax.measure._gather import LARGEST, Kind, Layout
from clipax.measure._leaves import reduced_axes

__all__ = ["Terms", "sum_apart", "sum_on_gpu"]

_LONGEST = 1024
"""Arrays up to which sums over devices are added one by one, which compiles in quadratic time.

XLA then sums a few numbers over the devices. Of a stack it sums each: of 291 leaves on 256 chips
that takes .3 P of temporaries instead of .15 (`benchmarks/NOTES.md`).
"""

Sums = tuple[Array, ...]
Terms = Callable[[Array], Sums]
"""From an array to the terms that are summed up, entry by entry: one or more arrays."""


def sum_apart(terms: Terms, values: Sequence[Array], layout: Layout) -> dict[str, Sums]:
    """Sum the terms of the arrays, each by a reduction of its own, by label."""
    sums = [
        tuple(jnp.sum(part, reduced_axes(value.ndim, block)) for part in terms(value))
        for value, block in zip(values, layout.blocks, strict=True)
    ]
    return _add_by_label(sums, layout)


def sum_on_gpu(terms: Terms, values: Sequence[Array], layout: Layout) -> dict[str, Sums]:
    """Sum the terms of the arrays, all terms in one reduction, by label.

    XLA reduces several terms over several devices by gathering them: an array of which another
    device may hold a part gets a reduction for each.
    """
    sums: dict[int, Sums] = {}
    alike: dict[Any, list[int]] = {}
    several = sum(value.size > LARGEST for value in values) > 1
    for place, (value, block) in enumerate(zip(values, layout.blocks, strict=True)):
        axes = reduced_axes(value.ndim, block)
        if not layout.whole[place]:
            sums[place] = tuple(jnp.sum(part, axes) for part in terms(value))
        elif value.size <= LARGEST:
            alike.setdefault((value.shape, value.dtype, axes), []).append(place)
        elif block.keep:
            sums[place] = _sum_columns(terms, value, axes)
        else:
            # Rows first, all second stages together: one kernel, not one for each array.
            sums[place] = _sum_terms(terms(value), axes[1:] if several and axes[1:] else axes)
    for (_, _, axes), places in alike.items():
        # Small arrays of one shape in one kernel.
        stack = jnp.stack([values[place] for place in places])
        rows = _sum_terms(terms(stack), tuple(axis + 1 for axis in axes))
        sums |= {place: tuple(part[row] for part in rows) for row, place in enumerate(places)}
    return _add_by_label([sums[place] for place in range(len(values))], layout)


def _add_by_label(sums: Sequence[Sums], layout: Layout) -> dict[str, Sums]:
    """Add the sums of a label over its arrays and all shards.

    XLA adds what shards hold before it sums over the devices, one number for all, as long as the
    arrays lie on the devices alike. Arrays of one kind mostly do: they are added first.
    """
    parts: dict[str, list[Sums]] = {}
    sharded: dict[str, dict[Kind, Sums]] = {}
    rows = zip(sums, layout.blocks, layout.copies, layout.whole, layout.kinds, strict=True)
    for row, block, copies, whole, kind in rows:
        # A shard that several devices hold counts once.
        share = row if copies == 1 else tuple(part / copies for part in row)
        if whole or len(sums) > _LONGEST:
            parts.setdefault(block.label, []).append(share)
        else:
            alike = sharded.setdefault(block.label, {})
            before = alike.get(kind)
            alike[kind] = share if before is None else _add_terms(before, share)
    for label, alike in sharded.items():
        # In order, by rank first: matrices may all lie alike, and vectors otherwise.
        total = functools.reduce(_add_terms, [alike[kind] for kind in sorted(alike)])
        parts.setdefault(label, []).append(total)
    units = {block.label for block in layout.blocks if block.keep}
    added = {label: _add(rows) for label, rows in parts.items() if label in units}
    added |= _add_rows({label: rows for label, rows in parts.items() if label not in units})
    return layout.mesh.psum(added)


def _add(parts: Sequence[Sums]) -> Sums:
    """Add sums of one shape, those of all terms in one reduction."""
    if len(parts) == 1:
        return parts[0]
    stacked = _sums.stack([part for column in zip(*parts, strict=True) for part in column])
    table = stacked.reshape(len(parts[0]), len(parts), *stacked.shape[1:])
    return tuple(jnp.sum(table, axis=1))


def _add_rows(parts: dict[str, list[Sums]]) -> dict[str, Sums]:
    """Add all entries of the sums of each label: one reduction for the labels that have as many."""
    added: dict[str, Sums] = {}
    alike: dict[int, list[str]] = {}
    for label, rows in parts.items():
        size = sum(row[0].size for row in rows)
        if size == 1:
            added[label] = tuple(part.reshape(()) for part in rows[0])
        else:
            alike.setdefault(size, []).append(label)
    for size, labels in alike.items():
        columns = list(zip(*(row for label in labels for row in parts[label]), strict=True))
        flat = jnp.concatenate([jnp.ravel(part) for column in columns for part in column])
        # Behind a barrier: XLA turns a sum of a concatenation into a chain of additions.
        table = lax.optimization_barrier(flat).reshape(len(columns), len(labels), size)
        totals = jnp.sum(table, axis=-1)
        added |= {label: tuple(totals[:, row]) for row, label in enumerate(labels)}
    return added


def _sum_columns(terms: Terms, value: Array, axes: tuple[int, ...]) -> Sums:
    """Sum over the first axes of an array, in pieces of fewer rows than columns.

    XLA for GPU writes out the terms where a kernel would have few columns to work on side by side,
    and takes a second stage for thousands of rows. It fuses the sum of a few pieces into the kernel
    that reads them.
    """
    if axes != tuple(range(len(axes))):
        return _sum_terms(terms(value), axes)
    kept = value.shape[len(axes) :]
    rows = math.prod(value.shape[: len(axes)])
    most = min(1024, math.prod(kept))
    fits = (n for n in range(2, rows // 64 + 1) if rows % n == 0 and rows // n <= most)
    pieces = next(fits, 1)
    sums = _sum_terms(terms(value.reshape(pieces, rows // pieces, *kept)), (1,))
    return tuple(_add_pieces(part) for part in sums)


def _add_pieces(pieces: Array) -> Array:
    """Add along the first axis: a few pieces one by one, which needs no kernel."""
    return sum(pieces[1:], start=pieces[0]) if len(pieces) <= 8 else jnp.sum(pieces, 0)


def _sum_terms(terms: Sums, axes: tuple[int, ...]) -> Sums:
    """Sum arrays of one shape in one reduction."""
    zero = jnp.zeros((), terms[0].dtype)
    return tuple(lax.reduce(terms, (zero,) * len(terms), _add_terms, axes))


def _add_terms(first: Sums, second: Sums) -> Sums:
    return tuple(one + other for one, other in zip(first, second, strict=True))
