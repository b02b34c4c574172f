"""What `scale_by_norm` records: for each label a few scalars, never one for each unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from clipax import scopes
from clipax._typing import Array, Norms
from clipax.norms import Decision

__all__ = ["Rows", "init", "record"]

# A scalar for the scope "global", else one for each label.
Rows = Array | dict[str, Array]

_FIELDS = (
    "grad_norm",
    "threshold",
    "clip_factor",
    "clipped_count",
    "nonfinite_count",
    "is_finite",
)


def init(
    shapes: dict[str, tuple[int, ...]], excluded: Sequence[str], dtype: Any, *, collapse: bool
) -> dict[str, Rows]:
    """The records before the first step, by field.

    Args:
      shapes: The shape of each label's norms.
      excluded: Labels that are checked but not scaled: they have counts of non-finite steps only.
      dtype: Type of the norms.
      collapse: Whether there is one label whose records stand without it.
    """
    everything = [*shapes, *excluded]
    records: dict[str, Any] = {
        "grad_norm": {label: jnp.zeros((), dtype) for label in shapes},
        "threshold": {label: jnp.full((), jnp.finfo(dtype).max, dtype) for label in shapes},
        "clip_factor": {label: jnp.ones((), dtype) for label in shapes},
        # Whole steps, or shares of a block's units.
        "clipped_count": {
            label: jnp.zeros((), dtype if shape else jnp.int32) for label, shape in shapes.items()
        },
        "nonfinite_count": {label: jnp.zeros((), jnp.int32) for label in everything},
        "is_finite": {label: jnp.ones((), bool) for label in everything},
    }
    return {field: rows[scopes.GLOBAL] for field, rows in records.items()} if collapse else records


def record(state: Any, measured: Norms, decisions: dict[str, Decision]) -> dict[str, Rows]:
    """The records after a step, by field; labels that were not measured keep theirs.

    Args:
      state: Anything with the fields of the telemetry.
      measured: The norms of every label.
      decisions: What was decided for each label that is not excluded.
    """
    collapse = not isinstance(state.grad_norm, dict)
    rows: dict[str, Any] = {}
    for field in _FIELDS:
        value = getattr(state, field)
        rows[field] = {scopes.GLOBAL: value} if collapse else dict(value)
    for label, norms in measured.items():
        finite = jnp.isfinite(norms)
        all_finite = jnp.all(finite)
        rows["is_finite"][label] = all_finite
        rows["nonfinite_count"][label] += (~all_finite).astype(jnp.int32)
        if label in decisions:
            _record_decision(rows, label, norms, finite, decisions[label])
    return {field: by[scopes.GLOBAL] for field, by in rows.items()} if collapse else rows


def _record_decision(
    rows: dict[str, dict[str, Array]], label: str, norms: Array, finite: Array, decision: Decision
) -> None:
    largest = jnp.finfo(norms.dtype).max
    clipped = finite & (norms > decision.threshold)
    news = {
        "grad_norm": jnp.max(jnp.where(finite, norms, 0), initial=0),
        "threshold": jnp.min(jnp.where(finite, decision.threshold, largest), initial=largest),
        "clip_factor": jnp.min(jnp.where(finite, decision.factor, largest), initial=largest),
    }
    for field, new in news.items():
        old = rows[field][label]
        rows[field][label] = jnp.where(jnp.any(finite), new.astype(old.dtype), old)
    count = rows["clipped_count"][label]
    share = jnp.mean(clipped, dtype=count.dtype) if norms.ndim else clipped.astype(count.dtype)
    rows["clipped_count"][label] = count + share
