"""Finds what was recorded in an optimizer state, in whatever nesting."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from clipax._statistics import _histogram
from clipax._statistics._histogram import HistogramState
from clipax._typing import Array
from clipax.engine._names import FIELDS

__all__ = ["Record", "histogram_of", "records"]

_NAMES = ("count", *FIELDS)
_SKETCH = HistogramState._fields[0]
# The names under which Flax NNX keeps the array of a variable.
_VARIABLE = ("value", "raw_value")

_Path = tuple[str, ...]


class Record(NamedTuple):
    """What one transformation recorded.

    Attributes:
      fields: Its telemetry, by field; empty for a threshold's state by itself.
      histogram: The norms of all its blocks together; None where it does not remember them.
    """

    fields: dict[str, Array]
    histogram: HistogramState | None


def records(state: Any) -> list[Record]:
    """The records of all transformations in a state, in order."""
    nodes: dict[_Path, dict[str, Any]] = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(state):
        names = tuple(jax.tree_util.keystr((key,), simple=True) for key in keys)
        if names and names[-1] in _VARIABLE:
            names = names[:-1]
        if names:
            nodes.setdefault(names[:-1], {})[names[-1]] = leaf
    histograms = {
        path: node[_SKETCH]
        for path, node in nodes.items()
        if _SKETCH in node and jnp.shape(node[_SKETCH])[-1:] == (_histogram.BINS,)
    }
    clips = {path: node for path, node in nodes.items() if all(name in node for name in _NAMES)}
    found = [
        Record(
            {name: jnp.asarray(node[name]) for name in _NAMES},
            _pooled([one for place, one in histograms.items() if place[: len(path)] == path]),
        )
        for path, node in clips.items()
    ]
    return found or [Record({}, _pooled([one])) for one in histograms.values()]


def histogram_of(norms_or_state: Any) -> HistogramState:
    """The first histogram in a state; otherwise that of an array of norms, along its last axis."""
    for record in records(norms_or_state):
        if record.histogram is not None:
            return record.histogram
    try:
        norms = jnp.asarray(norms_or_state, float)
    except (TypeError, ValueError):
        raise ValueError(
            "`norms` must be an array of norms, or the state of an optimizer that remembers them "
            f"(`clipax.monitor_norms`), found none in a {type(norms_or_state).__name__}."
        ) from None
    if norms.ndim == 0:
        raise ValueError(f"`norms` must have an axis of steps, got {norms_or_state!r}.")
    return _histogram.of(norms)


def _pooled(histograms: list[Any]) -> HistogramState | None:
    """The norms of all blocks and labels as one distribution."""
    if not histograms:
        return None
    rows = [
        jnp.sum(jnp.reshape(one, (-1, _histogram.BINS)).astype(jnp.float32), axis=0)
        for one in histograms
    ]
    counts = jnp.sum(jnp.stack(rows), axis=0)
    # Many blocks and steps are more than an int32 counts: then their shares.
    most = float(2**31 - 256)
    share = most / jnp.maximum(counts[-1], most)
    return HistogramState((counts * share).astype(jnp.int32))
