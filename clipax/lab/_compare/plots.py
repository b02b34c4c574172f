"""The picture of a comparison."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipax.lab._compare.files import write_whole
from clipax.lab._compare.results import MethodResult, quantile

__all__ = ["plot_curves"]

_COLOURS = 10
# The loss axes end at this multiple of the first loss; curves of diverged runs leave the picture.
_HEADROOM = 2.0
_BAND = (0.05, 0.95)


def plot_curves(results: Sequence[MethodResult], title: str, path: Path) -> None:
    """Draw test loss against step, its values at the end, and how the rates were chosen.

    Args:
      results: the best first; every panel keeps the order and the colours.
      title: what was compared.
      path: the PNG file to write.

    Raises:
      OSError: if the file cannot be written.
    """
    # Imported here: matplotlib takes 0.7 s, which the command line need not wait for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 6.5 + 0.05 * len(results)), layout="constrained")
    FigureCanvasAgg(figure)
    curves, ends, rates = figure.subplots(1, 3, width_ratios=(6, 3, 4))
    ceiling = _HEADROOM * max(min(curve[0], 1e3) for result in results for curve in result.loss)
    for place, result in enumerate(results):
        style = _style(place)
        # The best method is drawn last, on top of the others.
        style["zorder"] = 2 + 1 / (1 + place)
        _draw_curve(curves, result, style, ceiling)
        _draw_end(ends, place, result, style, ceiling)
        _draw_rates(rates, result, style, ceiling)
    curves.set(title="Test loss: median, band 5-95 % over seeds", xlabel="step", ylabel="test loss")
    curves.margins(x=0.01)
    ends.set(title="Test loss after the last step", xlabel="test loss")
    ends.set_yticks(range(len(results)), [result.method for result in results])
    ends.set_ylim(len(results) - 0.5, -0.5)
    rates.set(
        title="Choice of the learning rate (circled)",
        xlabel="learning rate",
        ylabel="mean validation loss",
    )
    rates.set_xscale("log")
    for axes, axis in ((curves, curves.yaxis), (rates, rates.yaxis), (ends, ends.xaxis)):
        axes.grid(True, axis="both" if axes is not ends else "x", color="0.9")
        _scale_losses(axes, axis, results, ceiling)
    # Final losses are usually below the start; wider bands leave the picture at the right.
    widest = max(_bands(result.final_loss, ceiling)[2] for result in results)
    ends.set_xlim(right=min(1.5 * widest, ceiling))
    figure.legend(
        *curves.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(5, len(results)),
        frameon=False,
        fontsize=11,
        handlelength=3,
    )
    figure.suptitle(title, fontsize=15)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110, format="png")
    write_whole(path, picture.getvalue())


def _style(place: int) -> dict[str, Any]:
    """Choose colour and dashes; every second line is dashed, so that equal curves both show."""
    from matplotlib import colormaps

    dashes = ("-", (0, (4, 2)), "-.", ":")
    rounds = 2 * (place // _COLOURS % 2)
    return {"color": colormaps["tab10"](place % _COLOURS), "linestyle": dashes[rounds + place % 2]}


def _scale_losses(axes: Any, axis: Any, results: Sequence[MethodResult], ceiling: float) -> None:
    """Set a log scale with plain numbers, from the lowest loss to the ceiling."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    losses = [loss for r in results for curve in r.loss for loss in curve if 0 < loss < math.inf]
    name = axis.axis_name
    getattr(axes, f"set_{name}scale")("log")
    getattr(axes, f"set_{name}lim")(0.8 * min([*losses, ceiling / _HEADROOM]), ceiling)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _bands(losses: Sequence[float], ceiling: float) -> tuple[float, float, float]:
    """Median and band; infinite values become finite ones beyond the axes."""
    low, median, high = (min(quantile(losses, q), 100 * ceiling) for q in (_BAND[0], 0.5, _BAND[1]))
    return low, median, high


def _draw_curve(axes: Any, result: MethodResult, style: dict[str, Any], ceiling: float) -> None:
    bands = [_bands(losses, ceiling) for losses in zip(*result.loss, strict=True)]
    low, median, high = zip(*bands, strict=True)
    axes.fill_between(result.points, low, high, color=style["color"], alpha=0.14, linewidth=0)
    axes.plot(result.points, median, linewidth=2, label=result.method, **style)


def _draw_end(
    axes: Any, place: int, result: MethodResult, style: dict[str, Any], ceiling: float
) -> None:
    low, median, high = _bands(result.final_loss, ceiling)
    axes.plot([low, high], [place, place], linewidth=7, alpha=0.3, color=style["color"])
    axes.plot([median], [place], marker="o", markersize=8, color=style["color"])
    if result.diverged:
        axes.text(
            0.98,
            place - 0.18,
            f"{100 * result.diverged:.0f} % diverged",
            ha="right",
            va="bottom",
            transform=axes.get_yaxis_transform(),
            color=style["color"],
        )


def _draw_rates(axes: Any, result: MethodResult, style: dict[str, Any], ceiling: float) -> None:
    if not result.validation_loss:
        return
    means = [min(sum(losses) / len(losses), 100 * ceiling) for losses in result.validation_loss]
    axes.plot(result.learning_rates, means, marker="o", markersize=4, **style)
    chosen = result.learning_rates.index(result.learning_rate)
    axes.plot(
        [result.learning_rate],
        [means[chosen]],
        marker="o",
        markersize=11,
        markerfacecolor="none",
        color=style["color"],
    )
