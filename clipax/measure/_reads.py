"""Norms from sums of squares: from plain ones, from several of one read, or from a second read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from clipax._typing import Array, Norms
from clipax.measure import _sums
from clipax.measure._again import choose_scale, lower_bounds, sum_rescaled_squares
from clipax.measure._gather import Layout
from clipax.measure._scaled import Squares, sum_scaled, take_norms

__all__ = ["Measurement", "read_again", "read_once", "read_plain"]


class Measurement(NamedTuple):
    """The norms of a tree.

    Attributes:
      norms: By label; an array's axes are the axes that its block keeps.
      stacked: The norms of labels that have one each, as a vector sorted by label, without
        excluded ones; None where there is no such label. It is stacked from the sums: XLA would
        fuse the roots into the program that stacks norms later, and compute them twice.
    """

    norms: Norms
    stacked: Array | None


def read_plain(
    add: Callable[[Sequence[Array], Layout, Any], Norms],
    function: Callable[[Any], Sequence[Array]],
    layout: Layout,
    dtype: Any,
    labels: tuple[str, ...],
    arrays: Any,
) -> Measurement:
    """Compute the norms from plain sums alone, as `add` takes them; `labels` are stacked."""
    squares = add(function(arrays), layout, dtype)
    stacked = _sums.stack([squares[label] for label in labels]) if labels else None
    return Measurement(*jax.tree.map(_sums.take_root, (squares, stacked)))


def read_once(
    function: Callable[[Any], Sequence[Array]],
    layout: Layout,
    dtype: Any,
    labels: tuple[str, ...],
    arrays: Any,
    *,
    on_gpu: bool,
) -> Measurement:
    """Compute the norms from sums at two scales; `labels` are stacked."""
    sums = sum_scaled(function(arrays), layout, dtype, on_gpu=on_gpu)
    rows = [sums.pop(label) for label in labels]
    norms = take_norms(sums) if on_gpu else {label: row.norms() for label, row in sums.items()}
    if not rows:
        return Measurement(norms, None)
    if len(rows) == 1:
        # The root of a scalar, not of a vector of one: XLA for GPU would then sum up what gradients
        # are computed from, and copy these in the update (`benchmarks/NOTES.md`).
        roots = [rows[0].norms()]
        stacked = jnp.stack(roots)
    else:
        columns = zip(*(row.sums for row in rows), strict=True)
        stacked = Squares(rows[0].scales, tuple(map(_sums.stack, columns))).norms()
        # Read out of the vector: one root, not one for each label.
        roots = list(jnp.unstack(stacked))
    return Measurement(norms | dict(zip(labels, roots, strict=True)), stacked)


def read_again(
    function: Callable[[Any], Sequence[Array]],
    layout: Layout,
    dtype: Any,
    labels: tuple[str, ...],
    arrays: Any,
) -> Measurement:
    """Compute the norms from plain sums; where one is not exact, read again, scaled.

    XLA for CPU takes 2 to 14 times as long for several sums (`benchmarks/NOTES.md`), and twice as
    long for one that tells zeros from squares that vanish. `labels` are stacked.
    """
    values = function(arrays)
    bounds = lower_bounds(values, layout, dtype)
    each = _sums.sum_squares_each(values, layout, dtype)
    squares = _sums.add_by_label(each, layout)

    def stack(values: Norms) -> Array | None:
        return _sums.stack([values[label] for label in labels]) if labels else None

    def plain() -> Measurement:
        return Measurement(
            jax.tree.map(_sums.take_root, squares), jax.tree.map(_sums.take_root, stacked)
        )

    def rescaled() -> Measurement:
        scales = {label: choose_scale(sums, bounds[label]) for label, sums in squares.items()}
        # Both behind a barrier: of a gradient that is a constant XLA would know the scales, and
        # square constants first (`hide_scale`). Call `function` inside the branch: XLA writes out
        # every operand of a `cond`.
        scales, hidden = jax.tree.map(lax.optimization_barrier, (scales, arrays))
        again = sum_rescaled_squares(function(hidden), each, layout, dtype, scales)
        norms = {label: _sums.take_root(sums) / scales[label] for label, sums in again.items()}
        return Measurement(norms, stack(norms))

    def mark(sums: Array, bound: Any) -> Array:
        return jnp.where((sums > 0) & (sums < bound), jnp.inf, sums)

    stacked = stack(squares)
    # The predicate is on the total: a block of zeros beside others never triggers the second read,
    # which would cost a frozen layer a fifth of its steps. The barrier keeps the total of units a
    # sum of their sums. XLA would make it a sum over entries, so that the squares had two readers
    # and were written out: 11 instead of 5 times the parameters' bytes (`benchmarks/NOTES.md`).
    units = [label for label in squares if label not in labels]
    hidden = {label: lax.optimization_barrier(squares[label]) for label in units}
    parts = [jnp.sum(mark(sums, bounds[label])) for label, sums in hidden.items()]
    if stacked is not None:
        limits = np.array([bounds[label] for label in labels], dtype)
        parts.insert(0, jnp.sum(mark(stacked, limits)))
    total = _sums.add(parts)
    # A total of zero says that all entries are, or that all their squares vanish.
    return lax.cond(~((total > 0) & (total < jnp.inf)), rescaled, plain)
