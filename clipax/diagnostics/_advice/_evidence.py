"""The evidence on a run: one form for what a state remembers and for what was logged."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from clipax.diagnostics._advice._distribution import Binned, Distribution, Exact
from clipax.diagnostics._advice._history import read_history
from clipax.diagnostics._advice._memory import Memory, read_memory
from clipax.diagnostics._advice._series import Series
from clipax.diagnostics._advice._tables import is_log

__all__ = ["ClipRecord", "Evidence", "collect_evidence"]


class ClipRecord(NamedTuple):
    """What a clip of the run did.

    Attributes:
      share: Share of the finite steps that were clipped; the mean over the blocks.
      recent: An average of the share that forgets in about 100 steps; None without a state.
      blocks: The shares by block; empty where there is one, or where they are not known.
    """

    share: float
    recent: float | None = None
    blocks: tuple[tuple[str, float], ...] = ()


class Evidence(NamedTuple):
    """What is known of the norms of a group of parameters.

    Attributes:
      name: The group; empty where there is one.
      steps: Number of steps with a norm, finite or not.
      nonfinite: Number of those that were not finite.
      skipped: Number of finite steps that a guard skipped, of which the clip knows nothing.
      zeros: Number of norms that are zero; in a state, those below all bins.
      norms: The others by size, of all blocks together; None where they are not remembered.
      clips: The clips of the run, in order.
      series: The norms in the order of the steps; None where it is not known.
      blocks: The norms by block; empty where there is one block.
      is_raw: Whether the norms are those in front of the clip.
      divides: Whether an optimizer behind the clip is known to divide by the size of the gradients.
    """

    name: str
    steps: int
    nonfinite: int
    skipped: int
    zeros: int
    norms: Distribution | None
    clips: tuple[ClipRecord, ...] = ()
    series: Series | None = None
    blocks: tuple[tuple[str, Binned], ...] = ()
    is_raw: bool = True
    divides: bool = False

    @property
    def finite(self) -> int:
        """Return the number of finite steps that were taken."""
        return self.steps - self.nonfinite - self.skipped


def collect_evidence(history_or_state: Any, column: str | None = None) -> list[Evidence]:
    """Collect evidence from an optimizer state or a history, group by group."""
    # A state is looked for in every node: not in those of a long log.
    if not is_log(history_or_state) and (memories := read_memory(history_or_state)):
        return [_from_memory(memory) for memory in memories]
    if _is_state(history_or_state):
        raise ValueError(
            "`history_or_state` must be an optimizer state with a clipax transformation that "
            f"measures norms, or a history of norms, got a {type(history_or_state).__name__} "
            "without any. Make the optimizer of `optax.chain(clipax.monitor_norms(), optimizer)` "
            "to have norms, and give the state that its `update` returns."
        )
    return [_from_series(series) for series in read_history(history_or_state, column)]


def _is_state(value: Any) -> bool:
    """Tell whether something is an optimizer's state, or an optimizer: tuples with names."""
    return hasattr(value, "_fields") or (
        isinstance(value, tuple) and any(_is_state(part) for part in value)
    )


def _from_series(series: Series) -> Evidence:
    finite, useful = series.is_finite, series.has_gradient
    clips = []
    if series.clipped is not None and finite.any():
        total = finite.sum()
        blocks = tuple((name, float(hit.sum() / total)) for name, hit in series.blocks)
        clips = [ClipRecord(float(series.clipped.sum() / total), None, blocks)]
    return Evidence(
        series.name,
        steps=len(series.norms),
        nonfinite=int((~finite).sum()),
        skipped=0,
        zeros=int((finite & ~useful).sum()),
        norms=Exact(np.sort(series.norms[useful])),
        clips=tuple(clips),
        series=series,
        is_raw=series.is_raw,
    )


def _from_memory(memory: Memory) -> Evidence:
    records = memory.records
    clipping = [place for place, record in enumerate(records) if record.shares]
    watching = [place for place, record in enumerate(records) if record.norms]
    main = records[clipping[0] if clipping else watching[0] if watching else 0]
    blocks = records[watching[0]].norms if watching else ()
    pooled = Binned(np.sum([one.counts for _, one in blocks], axis=0)) if blocks else None
    taken = main.steps - main.nonfinite - main.skipped
    zeros = 0
    if pooled is not None:
        # A threshold that remembers norms leaves out those of zero.
        watcher = records[watching[0]]
        own = watcher.steps - watcher.nonfinite - watcher.skipped
        zeros = int(pooled.counts[0])
        zeros += max(0, own - int(pooled.counts.sum())) if len(blocks) == 1 else 0
    clips = []
    for place in clipping if taken else ():
        shares = records[place].shares
        mean = float(np.mean([share for _, share in shares]))
        clips.append(ClipRecord(mean, records[place].recent, shares if len(shares) > 1 else ()))
    return Evidence(
        memory.name,
        steps=main.steps,
        nonfinite=main.nonfinite,
        skipped=main.skipped,
        zeros=zeros,
        norms=pooled,
        clips=tuple(clips),
        blocks=blocks if len(blocks) > 1 else (),
        is_raw=not watching or not clipping or watching[0] <= clipping[0],
        divides=memory.divides,
    )
