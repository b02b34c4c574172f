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
"""As many last ordinary steps must all be alike."""
PROMPT = 20
"""What is alike after at most as many steps is not called delayed."""
CUT = 0.2
"""A second spike is cut if less of it passes than this share of what passes of ordinary steps."""
_ORDINARY = 20


def judge(
    fault: str,
    when: str,
    faulty: tuple[Lane, Trace],
    references: Sequence[tuple[Lane, Trace]],
    tolerance: float,
) -> Row:
    """The row of a report.

    Args:
      fault: Name of the fault.
      when: `"early"`, `"late"` or `"always"`.
      faulty: The run with the fault.
      references: The undisturbed run, and then others that it may be like just as well.
      tolerance: Updates are alike whose relative difference is below.
    """
    lane, trace = faulty
    during = slice(lane.start, lane.resume)
    finite = np.isfinite(trace.updates).all(axis=1)
    update_finite = bool(finite[lane.start :].all())
    state_finite = bool(trace.finite.all())
    bad = not np.isfinite(lane.norms[during]).all()
    differences, steps = _settling(faulty, references, tolerance)
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
    """Whether the second spike is cut, by the ratio of update to gradient beside ordinary steps'.

    The largest update of the next few counts, for methods that delay them.
    """
    ordinary = slice(lane.spike - _ORDINARY, lane.spike)
    updates = _norms(trace.updates)
    usual = np.median(updates[ordinary] / lane.norms[ordinary])
    passed = updates[lane.spike : lane.spike + AFTERMATH].max() / lane.norms[lane.spike]
    return bool(usual > 0 and passed < CUT * usual)


def _settling(
    faulty: tuple[Lane, Trace], references: Sequence[tuple[Lane, Trace]], tolerance: float
) -> tuple[np.ndarray, int | None]:
    """Relative differences of the ordinary steps after the fault, and after how many it is alike.

    None where the last of them still differ, or the undisturbed run does not move at all. A method
    may count the step of the fault or leave it out, as a whole, in blocks or in single entries: for
    each entry the nearest reference counts.
    """
    ours, *others = (
        trace.updates[lane.resume : lane.spike] for lane, trace in (faulty, *references)
    )
    sizes = _norms(others[0])
    # A step of next to nothing is compared with what is usual.
    least = 1e-3 * np.median(sizes)
    with np.errstate(invalid="ignore", divide="ignore"):
        nearest = np.min([np.abs(ours - other) for other in others], axis=0)
        differences = _norms(nearest) / np.maximum(sizes, least)
    differences = np.nan_to_num(differences, nan=np.inf)
    unlike = np.flatnonzero(differences >= tolerance)
    steps = int(unlike[-1]) + 1 if unlike.size else 0
    settled = steps <= len(differences) - SETTLED and least > 0
    return differences, steps if settled else None


def _norms(updates: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.linalg.norm(updates, axis=1)
