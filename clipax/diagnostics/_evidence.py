"""The evidence on the norms of a run: one form for states and for histories."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from clipax._metrics import clip_columns, clips_at_all
from clipax._statistics import _histogram
from clipax._statistics._histogram import HistogramState
from clipax.diagnostics._states import Record, records
from clipax.engine import Telemetry

__all__ = ["Evidence", "collect_evidence"]

_NORM = re.compile(r"(?:\d+/)?grad_norm")


class Evidence(NamedTuple):
    """The norms and counts of a run.

    Attributes:
      steps: Number of steps.
      nonfinite_count: Number of steps that were not finite.
      clip_fraction: Share of the finite steps that were clipped; None without a clip.
      histogram: The norms; None where the state does not remember them.
      is_raw: Whether they are those in front of the clip.
      drift: Median norm of the second half of the run over that of the first; None if not known.
    """

    steps: int
    nonfinite_count: int
    clip_fraction: float | None
    histogram: HistogramState | None
    is_raw: bool = True
    drift: float | None = None


def collect_evidence(history_or_state: Any) -> Evidence:
    """Collect evidence from an optimizer state, from norms, or from results of `metrics`."""
    if recorded := records(history_or_state):
        return _from_state(recorded)
    history = jax.device_get(history_or_state)
    if isinstance(history, Sequence) and all(isinstance(one, Mapping) for one in history):
        return _from_metrics(history) if history else _from_norms(np.zeros(0))
    try:
        norms = np.asarray(history, float)
    except (TypeError, ValueError):
        norms = None
    if norms is None or norms.ndim != 1:
        raise ValueError(
            "`history_or_state` must be an optimizer state with a clipax transformation that "
            "measures norms, a sequence of norms, or one of what `clipax.metrics` returned, got a "
            f"{type(history_or_state).__name__}."
        )
    return _from_norms(norms)


def _from_state(records: list[Record]) -> Evidence:
    telemetries = [record.telemetry for record in records]
    if any(one is not None and one.steps.ndim for one in telemetries):
        raise ValueError("`history_or_state` must be the state of one run, this one is vectorised.")
    places = [place for place, record in enumerate(records) if record.histogram is not None]
    watched = places[0] if places else None
    clip = next((place for place, one in enumerate(telemetries) if _clips(one)), None)
    histogram = None if watched is None else records[watched].histogram
    is_raw = watched is None or clip is None or watched <= clip
    telemetry = telemetries[(watched or 0) if clip is None else clip]
    if telemetry is None:  # a threshold's state by itself
        return Evidence(int(_histogram.total(histogram)) if histogram else 0, 0, None, histogram)
    # A step that is not finite may be so in several blocks: at least this many were.
    nonfinite = int(np.asarray(telemetry.nonfinite_count).max(initial=0))
    fraction = None if clip is None else _clip_fraction(telemetry)
    return Evidence(int(telemetry.steps), nonfinite, fraction, histogram, is_raw)


def _clips(telemetry: Telemetry | None) -> bool:
    """Tell whether the transformation ever had a threshold."""
    return telemetry is not None and bool(jnp.any(clips_at_all(clip_columns(telemetry))))


def _clip_fraction(telemetry: Telemetry) -> float:
    """Average over the blocks that ever had a threshold, as `clipax.metrics` reports it."""
    columns = clip_columns(telemetry)
    return float(jnp.mean(columns["clip_fraction"], where=clips_at_all(columns)))


def _from_norms(norms: np.ndarray, clipped: np.ndarray | None = None) -> Evidence:
    """Collect evidence from a sequence of norms, NaN where a step was not finite."""
    finite = np.isfinite(norms)
    if (norms[finite] < 0).any():
        raise ValueError(f"Norms must not be negative, got {norms[finite].min()}.")
    kept = norms[finite]
    fraction = None if clipped is None else float(np.mean(clipped[finite])) if kept.size else 0.0
    half = len(kept) // 2
    first, last = (float(np.median(part)) if half else 0.0 for part in (kept[:half], kept[half:]))
    return Evidence(
        steps=norms.size,
        nonfinite_count=int(norms.size - kept.size),
        clip_fraction=fraction,
        histogram=_histogram.from_norms(jnp.asarray(kept, float)),
        drift=last / first if first > 0 else None,
    )


def _from_metrics(history: Sequence[Mapping[str, Any]]) -> Evidence:
    """Collect evidence from results of `metrics`: norms of the first clip in the state."""
    prefixes = sorted(
        {name.removesuffix("grad_norm") for name in history[0] if _NORM.fullmatch(name)},
        key=lambda prefix: int(prefix[:-1] or 0),
    )
    if not prefixes:
        raise ValueError("`history_or_state` must hold what `clipax.metrics` returns.")

    def column(name: str) -> np.ndarray:
        return np.asarray([np.asarray(row[name]) for row in history], float)

    def norms(prefix: str) -> np.ndarray:
        return np.where(column(f"{prefix}is_finite") > 0, column(f"{prefix}grad_norm"), np.nan)

    for prefix in prefixes:
        threshold = column(f"{prefix}threshold")
        if np.isfinite(threshold).any():
            clipped = norms(prefix) > threshold
            of_blocks = (f"{prefix}top_", f"{prefix}grad_norm/")
            if any(name.startswith(of_blocks) for name in history[0]):
                # With several blocks, the largest norm and the smallest threshold may be of two
                # different ones: use the factor.
                clipped = column(f"{prefix}clip_factor") < 1
            return _from_norms(norms(prefixes[0]), clipped)
    return _from_norms(norms(prefixes[0]))
