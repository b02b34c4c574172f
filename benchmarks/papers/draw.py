"""What the papers' panels have in common: lines, bands and theory in one style."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

__all__ = ["bands", "lines", "spaced"]

Draw = Callable[[Axes], None]


def spaced(steps: int, points: int = 200) -> np.ndarray:
    """Whole numbers from 1 to `steps`, evenly spaced in logarithm, as far as there are so many."""
    return np.unique(np.geomspace(1, steps, points).round().astype(int))


def lines(
    curves: Mapping[str, tuple[Sequence[Any] | np.ndarray, Any]],
    *,
    theory: Mapping[str, tuple[Sequence[Any] | np.ndarray, Any]] | None = None,
    scales: tuple[str, str] = ("log", "log"),
    marker: str | None = None,
    joined: bool = True,
    **limits: Any,
) -> Draw:
    """Draws curves, and over them in black what the theory says.

    Args:
      curves: Abscissae and ordinates by label.
      theory: Likewise, as dotted lines.
      scales: Of the two axes.
      marker: At every point of a curve, for measurements at few places.
      joined: Without it points alone, hollow and of falling size, so that equal ones all show.
      **limits: For `Axes.set`, such as `ylim`.

    Returns:
      What a panel draws.
    """

    def draw(axes: Axes) -> None:
        axes.set(xscale=scales[0], yscale=scales[1])
        for place, (label, (x, y)) in enumerate(curves.items()):
            if joined:
                style = _style(place) | {"marker": marker, "markersize": 5}
            else:
                style = _style(place) | {
                    "marker": "osD^v"[place % 5],
                    "markersize": 10 - 2.5 * place,
                }
                style |= {"linestyle": "none", "fillstyle": "none"}
            axes.plot(x, np.asarray(y), label=label, **style)
        for place, (label, (x, y)) in enumerate((theory or {}).items()):
            dots = (":", "-.")[place % 2]
            axes.plot(x, np.asarray(y), dots, color="black", linewidth=1.3, label=label)
        # Now that an end left open can follow the curves.
        axes.set(**limits)
        axes.legend()

    return draw


def bands(
    curves: Mapping[str, tuple[Sequence[Any] | np.ndarray, Any]],
    *,
    theory: Mapping[str, tuple[Sequence[Any] | np.ndarray, Any]] | None = None,
    scales: tuple[str, str] = ("log", "log"),
    **limits: Any,
) -> Draw:
    """Draws the middle of three percentiles as a line and the outer two as a band.

    Args:
      curves: Abscissae and three rows of ordinates by label.
      theory: Lines, in black and dotted.
      scales: Of the two axes.
      **limits: For `Axes.set`, such as `ylim`.

    Returns:
      What a panel draws.
    """

    def draw(axes: Axes) -> None:
        for place, (x, (low, _, high)) in enumerate(curves.values()):
            colour = _style(place)["color"]
            axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        middles = {label: (x, rows[1]) for label, (x, rows) in curves.items()}
        lines(middles, theory=theory, scales=scales, **limits)(axes)

    return draw


def _style(place: int) -> dict[str, Any]:
    """Every second line is dashed, so that one of two equal curves shows through the other."""
    dash = ("-", (0, (4, 2)))[place % 2]
    return {"color": colormaps["tab10"](place % 10), "linestyle": dash, "linewidth": 1.8}
