"""What a paper's parts take and give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes

from benchmarks.papers.claims import Claim

__all__ = ["Options", "Outcome", "Panel"]


@dataclass(frozen=True)
class Options:
    """How a part is to be run.

    Attributes:
      quick: Fewer runs and smaller horizons, in seconds.
      seed: Of all that is random.
      data_dir: Folder of the larger data sets; None for those that scikit-learn ships.
    """

    quick: bool
    seed: int
    data_dir: Path | None


@dataclass(frozen=True)
class Panel:
    """One pair of axes of a figure.

    Attributes:
      title: What it shows.
      xlabel: Of the horizontal axis.
      ylabel: Of the vertical axis.
      draw: Draws into axes that have title and labels.
    """

    title: str
    xlabel: str
    ylabel: str
    draw: Callable[[Axes], None]


@dataclass(frozen=True)
class Outcome:
    """What a part found.

    Attributes:
      claims: Figures beside measurements.
      panels: What to draw.
    """

    claims: list[Claim]
    panels: list[Panel]
