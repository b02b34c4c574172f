"""Reads what an optimizer state remembers, group by group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from clipax import _metrics
from clipax._states import find, unwrap
from clipax._statistics import _histogram
from clipax._statistics._histogram import HistogramState
from clipax.diagnostics._advice._distribution import Binned
from clipax.engine import Telemetry, decode_names, known_labels

__all__ = ["Memory", "Record", "read_memory"]

_COUNTS = HistogramState._fields[0]
_SQUARES = frozenset({"nu", "sum_of_squares", "v_row", "e_g"})
"""Fields of optax's optimizers that divide by the size of the gradients, as Adam does."""


class Record(NamedTuple):
    """What a transformation of clipax has recorded.

    Attributes:
      steps: Number of steps.
      nonfinite: Number of steps with a norm that was not finite, at least.
      shares: Share of the finite steps that were clipped, by block; only blocks that ever had a
        threshold.
      norms: The norms by block, in bins; none where it does not remember them.
    """

    steps: int
    nonfinite: int
    shares: tuple[tuple[str, float], ...]
    norms: tuple[tuple[str, Binned], ...]


class Memory(NamedTuple):
    """The records of one group of parameters, in the order of the chain.

    Attributes:
      name: Its label; empty where there is one group.
      records: What each transformation has recorded.
      divides: Whether an optimizer behind the clip is known to divide by the size of its gradients.
    """

    name: str
    records: tuple[Record, ...]
    divides: bool


class _Found(NamedTuple):
    group: str
    clip: _metrics.Clip | None  # None: an optimizer that divides


def read_memory(state: Any) -> list[Memory]:
    """Read a state in any nesting, group by group; nothing where clipax has no part in it."""
    found = list(_walk(state, "")) if _metrics.find_clips(state) else []
    groups = dict.fromkeys(one.group for one in found if one.clip is not None)
    if not groups:
        norms = _read_norms(state, [])
        total = sum(int(binned.counts.sum()) for _, binned in norms)
        return [Memory("", (Record(total, 0, (), norms),), False)] if norms else []
    memories = []
    for group in groups:
        inside = [
            one
            for one in found
            if not (group and one.group) or f"{one.group}/".startswith(f"{group}/")
        ]
        first = next(place for place, one in enumerate(inside) if one.group == group and one.clip)
        clips = [one.clip for one in inside if one.group == group and one.clip is not None]
        divides = any(one.clip is None for one in inside[first:]) or any(
            "scales" in (clip.node.get("memory") or ()) for clip in clips
        )
        memories.append(Memory(group, tuple(map(_read_record, clips)), divides))
    return memories


def _walk(state: Any, group: str) -> Iterator[_Found]:
    """Find clips and dividing optimizers in order, named by the keys that tell groups apart."""

    def match(fields: Mapping[str, Any]) -> tuple[list[_Found], Iterable[Any]] | None:
        if "telemetry" in fields or "of_gradient" in fields:
            clips = _metrics.find_clips(fields)
            return ([_Found(group, clip) for clip in clips], ()) if clips else None
        if _SQUARES & fields.keys():
            return [_Found(group, None)], ()
        parts = {key: part for key, part in fields.items() if _metrics.find_clips(part)}
        if len(parts) < 2 or all(str(key).isdigit() for key in parts):
            return None
        inside: list[_Found] = []
        for key, part in fields.items():
            inside += _walk(part, f"{group}/{key}".lstrip("/"))
        return inside, ()

    for found in find(state, match):
        yield from found


def _read_record(clip: _metrics.Clip) -> Record:
    telemetry = clip.telemetry
    if telemetry.steps.ndim:
        raise ValueError("`history_or_state` must be the state of one run, this one is vectorised.")
    labels = _read_labels(telemetry)
    columns = jax.device_get(_metrics.clip_columns(telemetry))
    clips = np.atleast_1d(np.asarray(_metrics.clips_at_all(columns)))
    shares = np.atleast_1d(np.asarray(columns["clip_fraction"], float))
    # A step that is not finite may be so in several blocks: at least this many were.
    nonfinite = int(np.asarray(telemetry.nonfinite_count).max(initial=0))
    return Record(
        int(telemetry.steps),
        nonfinite,
        tuple((labels[row], float(shares[row])) for row in np.flatnonzero(clips)),
        _read_norms(clip.node, labels),
    )


def _read_labels(telemetry: Telemetry) -> list[str]:
    if telemetry.names is None:
        return ["global"]
    return known_labels(telemetry) or list(decode_names(telemetry.names))


def _read_norms(state: Any, labels: list[str]) -> tuple[tuple[str, Binned], ...]:
    """Collect the histograms of a state; labels name its blocks, blocks with units apart."""

    def match(
        fields: Mapping[str, Any],
    ) -> tuple[list[tuple[str, np.ndarray]], Iterable[Any]] | None:
        counts = unwrap(fields.get(_COUNTS))
        if counts is not None and np.shape(counts)[-1:] == (_histogram.BINS,):
            rows = np.reshape(np.asarray(counts, np.int64), (-1, _histogram.BINS))
            return [("", row) for row in rows], ()
        units = {label: fields.get(f"block:{label}") for label in labels}
        parts = {label: _read_norms(part, []) for label, part in units.items() if part is not None}
        pooled = [
            (label, np.cumsum(sum(binned.counts for _, binned in part)))
            for label, part in parts.items()
            if part
        ]
        return (pooled, ()) if pooled else None

    found = [pair for pairs in find(state, match) for pair in pairs]
    taken = {label for label, _ in found}
    rest = [label for label in labels if label not in taken]
    unnamed = [label for label, _ in found].count("")
    names = iter(rest if len(rest) == unnamed else [f"block {row}" for row in range(unnamed)])
    return tuple(
        (label or next(names), Binned(np.diff(cumulative, prepend=0)))
        for label, cumulative in found
    )
