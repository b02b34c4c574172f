"""A paper's panels as one figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.papers.paper import Panel

__all__ = ["figure", "save"]

_COLUMNS = 3


def figure(title: str, panels: Sequence[Panel]) -> Figure:
    """Draws the panels, row by row.

    Args:
      title: What stands above all of them.
      panels: One or more.

    Returns:
      The figure.
    """
    columns = min(_COLUMNS, math.ceil(math.sqrt(len(panels))))
    rows = math.ceil(len(panels) / columns)
    # One panel alone is as wide as the title above it.
    width = 7.5 if columns == 1 else 5.4 * columns
    drawn = Figure(figsize=(width, 4.3 * rows + 0.4), layout="constrained")
    FigureCanvasAgg(drawn)
    for place, panel in enumerate(panels):
        axes = drawn.add_subplot(rows, columns, place + 1)
        axes.set_title(panel.title, fontsize=12)
        axes.set_xlabel(panel.xlabel, fontsize=11)
        axes.set_ylabel(panel.ylabel, fontsize=11)
        axes.grid(True, color="0.9")
        axes.set_axisbelow(True)
        panel.draw(axes)
        if (legend := axes.get_legend()) is not None:
            for text in legend.get_texts():
                text.set_fontsize(9)
    drawn.suptitle(title, fontsize=14)
    return drawn


def save(title: str, panels: Sequence[Panel], path: Path) -> None:
    """Writes the figure as a PNG file.

    Args:
      title: What stands above the panels.
      panels: One or more.
      path: The file.

    Raises:
      OSError: If it cannot be written.
    """
    figure(title, panels).savefig(path, dpi=100)
