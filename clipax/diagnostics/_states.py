"""The norms that an optimizer state remembers, and what was recorded beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from clipax._clips import find_measuring
from clipax._states import find, unwrap
from clipax._statistics import _histogram
from clipax._statistics._histogram import HistogramState
from clipax._typing import Array
from clipax.engine import Telemetry

__all__ = ["Record", "histogram_of", "records"]

_COUNTS = HistogramState._fields[0]


class Record(NamedTuple):
    """The record of one transformation.

    Attributes:
      telemetry: Its telemetry; None for a threshold's state by itself.
      histogram: The norms of all its blocks together; None where it does not remember them.
    """

    telemetry: Telemetry | None
    histogram: HistogramState | None


def records(state: Any) -> list[Record]:
    """Find the records of all transformations in a state, in order."""
    clips = [
        Record(clip.telemetry, _pool(_histograms(clip.node))) for clip in find_measuring(state)
    ]
    return clips or [Record(None, _pool([one])) for one in _histograms(state)]


def histogram_of(norms_or_state: Any) -> HistogramState:
    """Find the first histogram in a state, or make one of an array of norms by its last axis."""
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
    return _histogram.from_norms(norms)


def _histograms(state: Any) -> list[Array]:
    """Collect the counts of all histograms in a state."""

    def match(fields: Mapping[str, Any]) -> tuple[Array, Iterable[str]] | None:
        counts = unwrap(fields.get(_COUNTS))
        if counts is None or jnp.shape(counts)[-1:] != (_histogram.BINS,):
            return None
        return counts, ()

    return [item for _, item in find(state, match)]


def _pool(histograms: list[Array]) -> HistogramState | None:
    """Pool the norms of all blocks and labels to one distribution."""
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
