"""The picture of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from clipax.lab.results import MethodResult, quantile

__all__ = ["plot_curves"]

_DASHES = ("-", "--", "-.", ":")
# Losses beyond this multiple of the first say no more than "useless"; the scale is for the rest.
_HEADROOM = 3.0


def plot_curves(results: Sequence[MethodResult], title: str, path: Path) -> None:
    """Draws test loss against step, its values at the end, and validation loss against rate.

    Args:
      results: the best first; every panel keeps the order and the colours.
      title: what was compared.
      path: the PNG file to write.

    Raises:
      OSError: if the file cannot be written.
    """
    figure = Figure(figsize=(14, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    curves, ends, rates = figure.subplots(1, 3, width_ratios=(5, 3, 4))
    low, high = _range(results)
    styles = _styles(len(results))
    for place, (result, style) in enumerate(zip(results, styles, strict=True)):
        _draw_curve(curves, result, style, high)
        _draw_end(ends, place, result, style, high)
        _draw_rates(rates, result, style, high)
    for axes in (curves, rates):
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        axes.grid(True, color="0.92")
    curves.set(title="Test loss: median and 5-95 % over seeds", xlabel="step", ylabel="test loss")
    curves.margins(x=0.01)
    ends.set(title="Test loss after the last step", xlabel="test loss")
    ends.set_xscale("log")
    ends.set_xlim(low, high)
    ends.set_yticks(range(len(results)), [result.method for result in results])
    ends.invert_yaxis()
    ends.grid(True, axis="x", color="0.92")
    rates.set_xscale("log")
    rates.set(
        title="Choice of the learning rate", xlabel="learning rate", ylabel="mean validation loss"
    )
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(title, fontsize=14)
    figure.savefig(path, dpi=110)


def _styles(count: int) -> list[dict[str, Any]]:
    """Colours that come again with another dash, so that many methods can be told apart."""
    palette = colormaps["tab10"].resampled(10)
    return [
        {"color": palette(i % 10), "linestyle": _DASHES[i // 10 % len(_DASHES)]}
        for i in range(count)
    ]


def _range(results: Sequence[MethodResult]) -> tuple[float, float]:
    """Limits of the loss: all that was reached below, a little above the start on top."""
    losses = [loss for result in results for curve in result.loss for loss in curve]
    finite = [loss for loss in losses if 0 < loss < math.inf]
    start = max((curve[0] for result in results for curve in result.loss), default=1.0)
    return 0.8 * min(finite, default=0.1), _HEADROOM * min(start, 1e3)


def _draw_curve(axes: Any, result: MethodResult, style: dict[str, Any], high: float) -> None:
    columns = list(zip(*result.loss, strict=True))
    # Infinite values go far above the axes, where the limits cut them off.
    low, median, top = (
        np.minimum([quantile(column, q) for column in columns], 100 * high)
        for q in (0.05, 0.5, 0.95)
    )
    axes.fill_between(result.points, low, top, color=style["color"], alpha=0.13, linewidth=0)
    axes.plot(result.points, median, linewidth=2, label=result.method, **style)


def _draw_end(
    axes: Any, place: int, result: MethodResult, style: dict[str, Any], high: float
) -> None:
    low, median, top = (min(quantile(result.final_loss, q), 100 * high) for q in (0.05, 0.5, 0.95))
    axes.plot([low, top], [place, place], linewidth=6, alpha=0.3, color=style["color"])
    axes.plot([median], [place], marker="o", markersize=8, color=style["color"])
    if result.diverged:
        axes.text(
            0.98,
            place,
            f"{100 * result.diverged:.0f} % diverged ",
            ha="right",
            va="bottom",
            transform=axes.get_yaxis_transform(),
            color=style["color"],
        )


def _draw_rates(axes: Any, result: MethodResult, style: dict[str, Any], high: float) -> None:
    if not result.validation_loss:
        return
    means = [min(sum(losses) / len(losses), 100 * high) for losses in result.validation_loss]
    axes.plot(result.learning_rates, means, marker="o", markersize=4, **style)
