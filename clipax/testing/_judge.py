"""Compares the trace of a faulty run with those of undisturbed ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipax.testing._gradients import AFTERMATH, Lane
from clipax.testing._report import (
    BREAKS,
    CLIPS,
    DELAYED,
    DIES,
    DOES_NOT_CLIP,
    NOT_APPLICABLE,
    RECOVERS,
    Row,
)
from clipax.testing._runs import Trace

__all__ = ["clips", "judge"]

SETTLED = 10
"""Number of last ordinary steps that must all be equal."""
PROMPT = 20
"""Largest number of steps that is not called delayed."""
CUT = 0.2
"""A second spike is cut if its ratio of update to gradient is below this share of the usual."""
_ORDINARY = 20


def judge(
    fault: str,
    when: str,
    faulty: tuple[Lane, Trace],
    references: Sequence[tuple[Lane, Trace]],
    tolerance: float,
) -> Row:
    """Judge a run with a fault by the runs without.

    Args:
      fault: Name of the fault.
      when: `"first"`, `"early"`, `"late"` or `"always"`.
      faulty: The run with the fault.
      references: The undisturbed run first, then other runs that it may equal as well.
      tolerance: Relative difference below which updates are equal.
    """
    lane, trace = faulty
    during = slice(lane.start, lane.resume)
    finite = np.isfinite(trace.updates).all(axis=1)
    update_finite = bool(finite[lane.start :].all())
    state_finite = bool(trace.finite.all())
    bad = not np.isfinite(lane.norms[during]).all()
    differences, steps = _measure_recovery(faulty, references, tolerance)
    undisturbed = references[0]
    clipping = NOT_APPLICABLE
    if clips(*undisturbed):
        clipping = CLIPS if clips(lane, trace) else DOES_NOT_CLIP
    if not (update_finite and state_finite):
        verdict = BREAKS
    elif steps is None or clipping == DOES_NOT_CLIP:
        verdict = DIES
    else:
        verdict = RECOVERS if steps <= PROMPT else DELAYED
    return Row(
        fault=fault,
        when=when,
        verdict=verdict,
        update_finite=update_finite,
        state_finite=state_finite,
        state_kept=trace.kept(during, undisturbed[1]) if bad else None,
        difference=float(differences[-SETTLED:].max()),
        steps=steps,
        clipping=clipping,
    )


def clips(lane: Lane, trace: Trace) -> bool:
    """Decide whether the second spike is cut, from the ratio of update to gradient.

    The largest of the next few updates counts, for methods that delay them.
    """
    ordinary = slice(lane.spike - _ORDINARY, lane.spike)
    updates = _row_norms(trace.updates)
    usual = np.median(updates[ordinary] / lane.norms[ordinary])
    passed = updates[lane.spike : lane.spike + AFTERMATH].max() / lane.norms[lane.spike]
    return bool(usual > 0 and passed < CUT * usual)


def _measure_recovery(
    faulty: tuple[Lane, Trace], references: Sequence[tuple[Lane, Trace]], tolerance: float
) -> tuple[np.ndarray, int | None]:
    """Compute relative differences after the fault, and the steps until updates are equal.

    None where the last of them still differ, or the undisturbed run does not move at all. A method
    may count the step of the fault or leave it out, as a whole, by blocks or by entries: each entry
    is compared with the nearest reference.
    """
    ours, *others = (
        trace.updates[lane.resume : lane.spike] for lane, trace in (faulty, *references)
    )
    sizes = _row_norms(others[0])
    # The floor keeps tiny steps from dividing by almost zero.
    least = 1e-3 * np.median(sizes)
    with np.errstate(invalid="ignore", divide="ignore"):
        nearest = np.min([np.abs(ours - other) for other in others], axis=0)
        differences = _row_norms(nearest) / np.maximum(sizes, least)
    differences = np.nan_to_num(differences, nan=np.inf)
    different = np.flatnonzero(differences >= tolerance)
    steps = int(different[-1]) + 1 if different.size else 0
    settled = steps <= len(differences) - SETTLED and least > 0
    return differences, steps if settled else None


def _row_norms(updates: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.linalg.norm(updates, axis=1)
