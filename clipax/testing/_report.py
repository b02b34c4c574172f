"""The report of the suite: a row for each fault, and the verdict on all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clipax import _validate

__all__ = [
    "BREAKS",
    "CLIPS",
    "DELAYED",
    "DIES",
    "DOES_NOT_CLIP",
    "NOT_APPLICABLE",
    "RECOVERS",
    "Report",
    "Row",
]

RECOVERS, DELAYED, DIES, BREAKS = "recovers", "delayed", "dies", "breaks"
_ORDER = (RECOVERS, DELAYED, DIES, BREAKS)
CLIPS, DOES_NOT_CLIP, NOT_APPLICABLE = "clips", "does not clip", "not applicable"


@dataclass(frozen=True)
class Row:
    """The result of one fault.

    Attributes:
      fault: Name of the fault.
      when: `"first"`, `"early"`, `"late"`, or `"always"` for a fault of the whole run.
      verdict: `"recovers"`: equal to a run without the fault within 20 steps. `"delayed"`: after
        `steps` steps, more than 20. `"dies"`: not equal by the end, or no longer clipping.
        `"breaks"`: a NaN or an infinity in an update or in the state, or an exception.
      update_finite: Whether all updates from the fault on are finite.
      state_finite: Whether the state is finite at all times.
      state_kept: After a gradient that is not finite: whether each number of the state, counts
        apart, is bit for bit that of the run without that step or that of the undisturbed run (some
        methods leave out only the blocks that are not finite); None for other faults.
      difference: Largest relative difference from the updates of the run without the fault, in the
        last ten ordinary steps; infinite where there is nothing to compare.
      steps: Ordinary steps until the updates are equal; None if they are not.
      clipping: Whether a second spike of a hundred times the typical norm is cut afterwards:
        `"clips"`, `"does not clip"`, or `"not applicable"` where it is not cut in the undisturbed
        run either.
      note: The exception, if there was one.
    """

    fault: str
    when: str
    verdict: str
    update_finite: bool
    state_finite: bool
    state_kept: bool | None
    difference: float
    steps: int | None
    clipping: str
    note: str = ""


@dataclass(frozen=True)
class Report:
    """The results of all faults; as a string, a table.

    Attributes:
      rows: A row for each fault and each time at which it was injected.
      clips: Whether the transformation, undisturbed, cuts a spike of a hundred times the typical
        norm.
    """

    rows: tuple[Row, ...]
    clips: bool

    @property
    def verdict(self) -> str:
        """The worst verdict of all rows."""
        return max((row.verdict for row in self.rows), key=_ORDER.index, default=RECOVERS)

    @property
    def state_kept(self) -> bool:
        """True if no gradient that is not finite left a trace in the state."""
        return all(row.state_kept is not False for row in self.rows)

    @property
    def state_finite(self) -> bool:
        """True if the state was finite at all times."""
        return all(row.state_finite for row in self.rows)

    def row(self, fault: str, when: str) -> Row:
        """Return the row of a fault at a time.

        Raises:
          ValueError: There is none.
        """
        for row in self.rows:
            if (row.fault, row.when) == (fault, when):
                return row
        raise ValueError(f"There is no row for {fault!r}, {when!r}.")

    def passed(self, expected: str | Mapping[str, str] = DELAYED) -> bool:
        """Check that no verdict is worse than expected.

        Args:
          expected: The worst verdict allowed, in the order `"recovers"`, `"delayed"`, `"dies"`,
            `"breaks"`; or a mapping from faults to it, where faults that it does not name must
            recover, delayed or not. Default `"delayed"`.

        Raises:
          ValueError: A verdict is none of these.
        """
        allowed = dict(expected) if isinstance(expected, Mapping) else {}
        usual = DELAYED if isinstance(expected, Mapping) else expected
        for verdict in (usual, *allowed.values()):
            _validate.one_of("expected", verdict, _ORDER)
        return all(
            _ORDER.index(row.verdict) <= _ORDER.index(allowed.get(row.fault, usual))
            for row in self.rows
        )

    def __str__(self) -> str:
        header = ("fault", "when", "verdict", "update", "state", "after", "difference", "spike")
        lines = [header, *map(_cells, self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )


def _cells(row: Row) -> tuple[str, ...]:
    if row.note:
        return (row.fault, row.when, row.verdict, row.note, *[""] * 4)
    kept = {True: ", kept", False: ", changed", None: ""}[row.state_kept]
    return (
        row.fault,
        row.when,
        row.verdict,
        "finite" if row.update_finite else "not finite",
        ("finite" if row.state_finite else "not finite") + kept,
        "-" if row.steps is None else f"{row.steps} steps",
        f"{row.difference:.1e}",
        row.clipping,
    )
