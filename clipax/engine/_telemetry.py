"""What `scale_by_norm` records: for each block a few scalars, never one for each unit.

One array a field holds all blocks: thousands of scalars would cost more than the step itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from clipax._typing import Array
from clipax.engine._blocks import Group
from clipax.engine._names import FIELDS, encode_names
from clipax.norms import Decision

__all__ = ["init", "record"]


class _Row(NamedTuple):
    """The records of a group for one step: a vector over its blocks, or a scalar for one."""

    grad_norm: Array
    threshold: Array
    clip_factor: Array
    clipped: Array
    is_finite: Array
    any_finite: Array


def init(
    shapes: dict[str, tuple[int, ...]], *, excluded: bool, collapse: bool, dtype: Any
) -> dict[str, Any]:
    """The records before the first step, by field.

    Args:
      shapes: The shape of each label's norms, in the order of the records.
      excluded: Whether there are leaves that are checked but not scaled: they share a last row of
        `nonfinite_count` and `is_finite`.
      collapse: Whether there is one label, whose records are scalars.
      dtype: Type of the norms.
    """
    rows: tuple[int, ...] = () if collapse else (len(shapes),)
    guarded: tuple[int, ...] = () if collapse else (len(shapes) + excluded,)
    whole = all(shape == () for shape in shapes.values())
    return {
        "names": None if collapse else jnp.asarray(encode_names(list(shapes))),
        "grad_norm": jnp.zeros(rows, dtype),
        "threshold": jnp.full(rows, jnp.finfo(dtype).max, dtype),
        "clip_factor": jnp.ones(rows, dtype),
        # Whole steps, or shares of a block's units.
        "clipped_count": jnp.zeros(rows, jnp.int32 if whole else dtype),
        "nonfinite_count": jnp.zeros(guarded, jnp.int32),
        "is_finite": jnp.ones(guarded, bool),
    }


def record(
    state: Any,
    labels: Sequence[str],
    groups: Sequence[Group],
    decisions: Sequence[Decision],
    stray: Sequence[Array],
) -> dict[str, Array]:
    """The records after a step, by field; blocks that were not measured keep theirs.

    Args:
      state: Anything with the fields of the telemetry.
      labels: The labels of all rows, in order.
      groups: The blocks that were decided on.
      decisions: What was decided on each group.
      stray: Norms of the excluded leaves.
    """
    collapse = state.grad_norm.ndim == 0
    old = {field: jnp.atleast_1d(getattr(state, field)) for field in FIELDS}
    place = {label: row for row, label in enumerate(labels)}
    new = dict(old)
    if groups:
        rows = [_row(group, one) for group, one in zip(groups, decisions, strict=True)]
        columns = [
            jnp.concatenate([jnp.atleast_1d(part) for part in column])
            for column in zip(*rows, strict=True)
        ]
        measured = np.array([place[label] for group in groups for label in group.labels])
        new = _merge(old, _Row(*columns), measured)
    if stray:
        finite = jnp.stack([jnp.isfinite(norms).all() for norms in stray]).all()
        new["is_finite"] = new["is_finite"].at[-1].set(finite)
        new["nonfinite_count"] = new["nonfinite_count"].at[-1].add((~finite).astype(jnp.int32))
    return {field: value[0] if collapse else value for field, value in new.items()}


def _row(group: Group, decision: Decision) -> _Row:
    norms = group.norms
    finite = jnp.isfinite(norms)
    clipped = finite & (norms > decision.threshold)
    largest = jnp.finfo(norms.dtype).max
    # Infinity ("nothing clips") is recorded as the largest float: a state is finite at all times.
    threshold = jnp.minimum(decision.threshold, largest)
    if not group.unit:
        # In the type of a share, to be put beside those of blocks that have units.
        share = clipped.astype(norms.dtype)
        return _Row(norms, threshold, decision.factor, share, finite, finite)
    return _Row(
        jnp.max(norms, where=finite, initial=0),
        jnp.min(threshold, where=finite, initial=largest),
        jnp.min(decision.factor, where=finite, initial=largest),
        jnp.mean(clipped, dtype=norms.dtype) if norms.size else jnp.zeros((), norms.dtype),
        jnp.all(finite),
        jnp.any(finite),
    )


def _merge(old: dict[str, Array], row: _Row, place: np.ndarray) -> dict[str, Array]:
    """Old records with those of the blocks at `place` brought up to date."""

    def whole(values: Array) -> bool:
        # The ordinary case, in which nothing needs to be gathered or scattered.
        return np.array_equal(place, np.arange(len(values)))

    def put(values: Array, news: Array) -> Array:
        return news if whole(values) else values.at[place].set(news)

    def got(values: Array) -> Array:
        return values if whole(values) else values[place]

    def latest(field: str, value: Array) -> Array:
        kept = got(old[field])
        return put(old[field], jnp.where(row.any_finite, value.astype(kept.dtype), kept))

    def counted(field: str, value: Array) -> Array:
        return put(old[field], got(old[field]) + value.astype(old[field].dtype))

    return {
        "grad_norm": latest("grad_norm", row.grad_norm),
        "threshold": latest("threshold", row.threshold),
        "clip_factor": latest("clip_factor", row.clip_factor),
        "clipped_count": counted("clipped_count", row.clipped),
        "nonfinite_count": counted("nonfinite_count", ~row.is_finite),
        "is_finite": put(old["is_finite"], row.is_finite),
    }
