"""The norms that an optimizer state remembers, as one distribution."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from clipax._clips import find_measuring
from clipax._states import find, unwrap
from clipax._statistics import _histogram
from clipax._statistics._histogram import HistogramState
from clipax._typing import Array

__all__ = ["histogram_of"]

_COUNTS = HistogramState._fields[0]


def histogram_of(norms_or_state: Any) -> HistogramState:
    """Find the first histogram in a state, or make one of an array of norms by its last axis."""
    measuring = [_histograms(item.node) for item in find_measuring(norms_or_state)]
    # A threshold's state by itself.
    for found in measuring or [[one] for one in _histograms(norms_or_state)]:
        if found:
            return _pool(found)
    try:
        norms = jnp.asarray(_saturate(norms_or_state), float)
    except (TypeError, ValueError):
        raise ValueError(
            "`norms` must be an array of norms, or the state of an optimizer that remembers them "
            f"(`clipax.monitor_norms`), found none in a {type(norms_or_state).__name__}."
        ) from None
    if norms.ndim == 0:
        raise ValueError(f"`norms` must have an axis of steps, got {norms_or_state!r}.")
    return _histogram.from_norms(norms)


def _saturate(norms: Any) -> Any:
    """Bound finite norms by the largest float of JAX; infinite ones are left out."""
    if isinstance(norms, list | tuple) and all(isinstance(one, float | int) for one in norms):
        norms = np.asarray(norms, float)
    if not isinstance(norms, np.ndarray) or norms.dtype.kind != "f":
        return norms
    return np.where(
        np.isfinite(norms), np.minimum(norms, jnp.finfo(jnp.result_type(float)).max), norms
    )


def _histograms(state: Any) -> list[Array]:
    """Collect the counts of all histograms in a state."""

    def match(fields: Mapping[str, Any]) -> tuple[Array, Iterable[str]] | None:
        counts = unwrap(fields.get(_COUNTS))
        if counts is None or jnp.shape(counts)[-1:] != (_histogram.BINS,):
            return None
        return counts, ()

    return [item for _, item in find(state, match)]


def _pool(histograms: list[Array]) -> HistogramState:
    """Pool the norms of all blocks and labels to one distribution."""
    rows = [
        jnp.sum(jnp.reshape(one, (-1, _histogram.BINS)).astype(jnp.float32), axis=0)
        for one in histograms
    ]
    counts = jnp.sum(jnp.stack(rows), axis=0)
    # Many blocks and steps are more than an int32 counts: then their shares.
    most = float(2**31 - 256)
    share = most / jnp.maximum(counts[-1], most)
    return HistogramState((counts * share).astype(jnp.int32))
