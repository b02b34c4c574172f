"""Reads what an optimizer state remembers, group by group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from clipax import _clips, _metrics
from clipax._states import Path, find, unwrap
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
      steps: Number of steps, those that a guard around it skipped included.
      nonfinite: Number of steps with a norm that was not finite, at least.
      skipped: Number of finite steps that a guard around it skipped.
      shares: Share of the other finite steps that were clipped, by block; only blocks that ever had
        a threshold.
      recent: The average of the shares that forgets in about 100 steps.
      norms: The norms by block, in bins; none where it does not remember them.
    """

    steps: int
    nonfinite: int
    skipped: int
    shares: tuple[tuple[str, float], ...]
    recent: float
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


def read_memory(state: Any) -> list[Memory]:
    """Read a state in any nesting, group by group; nothing where clipax has no part in it."""
    found = _clips.find_all(state)
    guards = [item for item in found if isinstance(item, _clips.Guard)]
    clips = [item for item in found if isinstance(item, _clips.Measuring)]
    clips = clips or _clips.find_measuring(state)  # a guard's own norms, where there are no others
    if not clips:
        norms = _read_norms(state, [])
        total = sum(int(binned.counts.sum()) for _, binned in norms)
        return [Memory("", (Record(total, 0, 0, (), 0.0, norms),), False)] if norms else []
    roots = _find_groups(clips)
    memories = []
    for root in dict.fromkeys(roots):
        inside = [clip for clip, own in zip(clips, roots, strict=True) if own == root]
        others = [other for other in roots if other != root and len(other) >= len(root)]
        behind = [
            path
            for path in _find_dividing(state, inside[0].path)
            if not any(path[: len(other)] == other for other in others if other != ())
        ]
        divides = bool(behind) or any(
            "scales" in (clip.node.get("memory") or ()) for clip in inside
        )
        records = tuple(
            _read_record(clip, [guard for guard in guards if guard.surrounds(clip)])
            for clip in inside
        )
        memories.append(Memory("/".join(_name(root)), records, divides))
    return memories


def _find_groups(clips: Sequence[_clips.Measuring]) -> list[Path]:
    """Find the part of the state that each belongs to: `optax.partition`, or one of a dictionary.

    A dictionary makes groups where two of its parts clip: `optax.named_chain` has one too.
    """
    paths = [clip.path for clip in clips]
    if len(paths) < 2:
        return [()] * len(paths)
    shared = 0
    while len({path[shared : shared + 1] for path in paths}) == 1:
        shared += 1
    if any(len(path) == shared for path in paths):
        return [()] * len(paths)  # a guard around others
    keys = list(dict.fromkeys(path[shared] for path in paths))
    clipping = {clip.path[shared] for clip in clips if clip.kind == "clip"}
    is_group = not any(key.isdigit() for key in keys) and (
        paths[0][shared - 1 : shared] == ("inner_states",) or len(clipping) > 1
    )
    roots: dict[Path, Path] = {}
    for key in keys:
        inside = [clip for clip in clips if clip.path[shared] == key]
        own = inside[0].path[: shared + 1] if is_group else ()
        for clip, root in zip(inside, _find_groups(inside), strict=True):
            roots[clip.path] = root or own
    return [roots[path] for path in paths]


def _name(root: Path) -> Path:
    """Leave out of a path what is no key of the user's."""
    after = len(root) - root[::-1].index("inner_states") if "inner_states" in root else 0
    return tuple(key for key in root[after:] if not key.isdigit())[-1:]


def _find_dividing(state: Any, clip: Path) -> list[Path]:
    """Find the optimizers behind a clip that divide by the size of the gradients."""

    def match(fields: Mapping[str, Any]) -> tuple[bool, Iterable[str]] | None:
        if "telemetry" in fields:
            return False, ()
        return (True, ()) if _SQUARES & fields.keys() else None

    found = list(find(state, match))
    own = [place for place, (path, _) in enumerate(found) if path[: len(clip)] == clip]
    return [path for path, divides in found[own[0] :] if divides] if own else []


def _read_record(clip: _clips.Measuring, guards: Sequence[_clips.Guard]) -> Record:
    telemetry = clip.telemetry
    if telemetry.steps.ndim:
        raise ValueError("`history_or_state` must be the state of one run, this one is vectorised.")
    labels = _read_labels(telemetry)
    columns = jax.device_get(_metrics.clip_columns(telemetry))
    clips = np.atleast_1d(np.asarray(_metrics.clips_at_all(columns)))
    # A guard has a threshold too, but clips nothing.
    clips &= clip.kind != "guard"
    shares, recent = (
        np.atleast_1d(np.asarray(columns[name], float))
        for name in ("clip_fraction", "recent_clip_fraction")
    )
    skipped = sum(int(guard.skipped_count) for guard in guards)
    nonfinite = sum(int(guard.nonfinite_count) for guard in guards)
    # A step that is not finite may be so in several blocks: at least this many were.
    seen = int(np.asarray(telemetry.nonfinite_count).max(initial=0))
    return Record(
        int(telemetry.steps) + skipped,
        seen + nonfinite,
        skipped - nonfinite,
        tuple((labels[row], float(shares[row])) for row in np.flatnonzero(clips)),
        float(recent[clips].mean()) if clips.any() else 0.0,
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
    ) -> tuple[list[tuple[str, np.ndarray]], Iterable[str]] | None:
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

    found = [pair for _, pairs in find(state, match) for pair in pairs]
    taken = {label for label, _ in found}
    rest = [label for label in labels if label not in taken]
    unnamed = [label for label, _ in found].count("")
    names = iter(rest if len(rest) == unnamed else [f"block {row}" for row in range(unnamed)])
    return tuple(
        (label or next(names), Binned(np.diff(cumulative, prepend=0)))
        for label, cumulative in found
    )
