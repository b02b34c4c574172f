"""What a paper's module offers: parts that measure, and what they bring back."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from matplotlib.axes import Axes

from benchmarks.papers.claims import Claim

__all__ = ["Options", "Outcome", "Panel", "Paper", "Part", "Result", "measure"]


@dataclass(frozen=True)
class Options:
    """How to run a paper.

    Attributes:
      quick: Fewer runs and smaller horizons, in seconds.
      seed: Of all that is random.
      data_dir: Folder with data sets that are not built in; None: parts that need it say so in a
        note and measure what they can.
      runs: Folder for what a long part has finished, so that it goes on from there when it is
        started again; None: nothing is kept.
    """

    quick: bool = False
    seed: int = 0
    data_dir: Path | None = None
    runs: Path | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes of a paper's figure.

    Attributes:
      title: What is shown.
      xlabel: Label of the horizontal axis, with its unit.
      ylabel: Label of the vertical axis, with its unit.
      draw: Draws into the axes; it may set scales and limits and ask for a legend.
    """

    title: str
    xlabel: str
    ylabel: str
    draw: Callable[[Axes], None]


@dataclass(frozen=True)
class Outcome:
    """What a part brings back.

    Attributes:
      claims: Figures beside measurements, their names unique within the paper.
      panels: The axes of the figure.
      notes: What a reader must know, such as a figure of the paper that is not reproduced.
    """

    claims: list[Claim]
    panels: list[Panel] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


Part = Callable[[Options], Outcome]


@dataclass(frozen=True)
class Paper:
    """Where claims come from, and the functions that check them.

    Attributes:
      title: The subject and the arXiv number, beside its name.
      parts: From the options to an outcome; they run one after the other and are joined. A part
        returns and does not yield, so that a change of precision inside ends with it.
    """

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Result:
    """A paper's outcome.

    Attributes:
      name: The paper's name on the command line.
      title: What it is.
      seconds: How long it took.
      claims: Figures beside measurements.
      notes: What a reader must know.
      failures: The errors of parts that raised.
      settings: Versions, date and options of the run.
      panels: The axes of the figure; not kept in the file.
    """

    name: str
    title: str
    seconds: float
    claims: list[Claim]
    notes: list[str]
    failures: list[str]
    settings: dict[str, str]
    panels: list[Panel] = field(default_factory=list)

    @property
    def passes(self) -> bool:
        """Whether every part ran and no figure is missed."""
        return not self.failures and all(claim.verdict != "MISSED" for claim in self.claims)

    def without_panels(self) -> Result:
        """What a file can keep: panels hold functions."""
        return replace(self, panels=[])


def measure(name: str, paper: Paper, options: Options, settings: dict[str, str]) -> Result:
    """Runs a paper's parts.

    A part that raises is recorded with its error, and the others go on: the work of minutes is not
    lost to a fault elsewhere.

    Args:
      name: The paper's name on the command line.
      paper: Its parts.
      options: How to run them.
      settings: Versions, date and options, to be kept with the result.

    Returns:
      The joined outcomes.
    """
    start = time.monotonic()
    joined, failures = Outcome([]), []
    for part in paper.parts:
        try:
            found = part(options)
        except Exception as error:  # whatever it is, it is reported and the exit status is 1
            traceback.print_exc()
            failures.append(f"{part.__module__}.{part.__qualname__}: {error!r}")
            continue
        joined.claims.extend(found.claims)
        joined.panels.extend(found.panels)
        joined.notes.extend(found.notes)
    return Result(
        name,
        paper.title,
        time.monotonic() - start,
        joined.claims,
        joined.notes,
        failures,
        settings,
        joined.panels,
    )
