"""The picture of a comparison."""

from __future__ import annotations

import io
import math
import textwrap
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clipax.lab._compare.files import write_whole
from clipax.lab._compare.grids import find_searched
from clipax.lab._compare.norms import Norms
from clipax.lab._compare.results import MethodResult, quantile

__all__ = ["draw"]

_BAND = (0.05, 0.95)
# Each method has its colour in every picture; the others share what is left.
_PALETTE = (
    *("#222222", "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2"),
    *("#17becf", "#bcbd22", "#7f7f7f", "#aec7e8", "#98df8a", "#c5b0d5", "#ffbb78", "#c49c94"),
)
_OWN = {
    "adamw": 0,
    "clip_by_global_norm": 1,
    "clip_by_zscore": 2,
    "clip_by_percentile": 3,
    "clip_by_ema": 4,
    "skip_spikes": 5,
    "clip_adam_norm": 6,
    "clip_by_median": 7,
    "clip_by_value": 8,
    "sgd": 9,
    "adam": 10,
}
# Median curves nearer than this share of the axis are said to lie on each other.
_NEAR = 0.004


def draw(
    results: Sequence[MethodResult], norms: Norms, title: str, path: Path | None = None
) -> Any:
    """Draw test loss against step and at the end, the norms, and how the rates were chosen.

    Args:
      results: the best first.
      norms: those without a clip.
      title: what was compared.
      path: the file to write, if any, in a format of matplotlib's by its name.

    Returns:
      The figure.

    Raises:
      OSError: if the file cannot be written.
      ValueError: if matplotlib has no such format.
    """
    # Imported here: matplotlib takes 0.7 s, which the command line need not wait for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(
        figsize=(13, 9 + 0.12 * len(results)),
        layout=ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.1, hspace=0.04, wspace=0.04),
    )
    FigureCanvasAgg(figure)
    (curves, ends), (seen, rates) = figure.subplots(2, 2, width_ratios=(6, 5))
    scale = _choose_scale(results)
    colours = choose_colours([result.method for result in results])
    labels = _label(results, scale)
    for place, result in enumerate(results):
        colour = colours[result.method]
        _draw_curve(curves, result, colour, scale, labels[result.method], place)
        _draw_end(ends, place, result, colour, scale)
        _draw_rates(rates, result, colour, scale)
    _draw_norms(seen, norms, results, colours)
    curves.set(title="Test loss: median, band 5-95 % over seeds", xlabel="step", ylabel="test loss")
    curves.margins(x=0.01)
    ends.set(title="Test loss after the last step", xlabel="test loss")
    ends.set_yticks(range(len(results)), [result.method.replace("+", "\n+") for result in results])
    ends.set_ylim(len(results) - 0.5, -0.5)
    rates.set(
        title="Choice of the learning rate (circled)",
        xlabel="learning rate",
        ylabel="mean validation loss, best threshold",
    )
    rates.set_xscale("log")
    for axes, axis in ((curves, curves.yaxis), (rates, rates.yaxis), (ends, ends.xaxis)):
        axes.grid(True, axis="both" if axes is not ends else "x", color="0.9")
        axes.set_axisbelow(True)
        _set_scale(axis, scale.log)
    _set_limits(curves.yaxis, scale, scale.low, scale.high)
    # Final losses are usually below the start; wider bands leave the picture at the right.
    finals = [_bands(result.final_loss, scale) for result in results]
    _set_limits(ends.xaxis, scale, min(low for low, _, _ in finals), max(x for _, _, x in finals))
    tried = [loss for result in results for row in result.validation_loss for loss in row]
    usable = [loss for loss in tried if loss < scale.high] or [scale.low, scale.high]
    _set_limits(rates.yaxis, scale, min(usable), max(usable))
    figure.legend(
        *curves.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(3, len(results)),
        frameon=False,
        fontsize=10,
        handlelength=3,
    )
    figure.suptitle(textwrap.fill(title, 110), fontsize=14)
    if path is not None:
        picture = io.BytesIO()
        figure.savefig(picture, dpi=110, format=path.suffix[1:] or "png")
        write_whole(path, picture.getvalue())
    return figure


def choose_colours(methods: Sequence[str]) -> dict[str, str]:
    """Choose a colour for each method, by its name and not by its place.

    Args:
      methods: names of methods.

    Returns:
      The colours. A method has the same one in every picture, unless two of those without a colour
      of their own would share it.
    """
    places: dict[str, int] = {}
    for method in sorted(methods, key=lambda name: (_first(name) not in _OWN, name)):
        wanted = _OWN.get(_first(method), len(_OWN) + zlib.crc32(method.encode()) % 5)
        free = [place for place in range(len(_PALETTE)) if place not in places.values()]
        places[method] = wanted if wanted in free or not free else _nearest(free, wanted)
    return {method: _PALETTE[place] for method, place in places.items()}


def _first(method: str) -> str:
    return method.partition("+")[0].partition(":")[0]


def _nearest(free: list[int], wanted: int) -> int:
    """Choose a free colour, those that are nobody's own first."""
    return min(free, key=lambda place: (place < len(_OWN), (place - wanted) % len(_PALETTE)))


class _Scale(NamedTuple):
    """The scale that all losses are drawn on, from `low` to `high`."""

    low: float
    high: float
    log: bool

    @property
    def beyond(self) -> float:
        """Where the losses of diverged runs are drawn, out of sight."""
        return self.high + 100 * (self.high - self.low)


def _choose_scale(results: Sequence[MethodResult]) -> _Scale:
    """Choose a scale up to the first losses, a log one where all are positive."""
    losses = [loss for r in results for curve in r.loss for loss in curve if math.isfinite(loss)]
    low = min(losses, default=0.0)
    high = max(
        (curve[0] for r in results for curve in r.loss if math.isfinite(curve[0])), default=1
    )
    return _Scale(low, high if high > low else low + 1, low > 0)


def _set_scale(axis: Any, log: bool) -> None:
    if log:
        getattr(axis.axes, f"set_{axis.axis_name}scale")("log")


def _set_limits(axis: Any, scale: _Scale, low: float, high: float) -> None:
    """Show losses from `low` to `high`, at most to the end of the scale, with some room."""
    high = min(high, scale.high)
    low = low if low < high else scale.low
    if scale.log:
        room = max((high / low) ** 0.06, 1.02)
        limits = low / room, high * room
        _write_plainly(axis, few=limits[1] / limits[0] > 30)
    else:
        margin = 0.06 * max(high - low, 1e-6 * max(abs(low), 1e-9))
        limits = low - margin, high + margin
    getattr(axis.axes, f"set_{axis.axis_name}lim")(*limits)


def _label(results: Sequence[MethodResult], scale: _Scale) -> dict[str, str]:
    """Name each curve, and say on which better one it lies."""
    medians = {}
    for result in results:
        median = np.array([_bands(losses, scale)[1] for losses in zip(*result.loss, strict=True)])
        medians[result.method] = np.log(median) if scale.log else median
    every = np.concatenate(list(medians.values()))
    width = max(float(every.max() - every.min()), 1e-9)
    labels: dict[str, str] = {}
    for method, curve in medians.items():
        under = [
            other
            for other, label in labels.items()
            if label == other and np.abs(medians[other] - curve).max() < _NEAR * width
        ]
        labels[method] = f"{method} (lies on {under[0]})" if under else method
    return labels


def _write_plainly(axis: Any, *, few: bool) -> None:
    """Label a log scale with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1, 1.5, 2, 2.5, 3, 4, 5, 7)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _bands(losses: Sequence[float], scale: _Scale) -> tuple[float, float, float]:
    """Median and band; infinite values become finite ones beyond the axes."""
    low, median, high = (min(quantile(losses, q), scale.beyond) for q in (_BAND[0], 0.5, _BAND[1]))
    return low, median, high


def _draw_curve(
    axes: Any, result: MethodResult, colour: str, scale: _Scale, label: str, place: int
) -> None:
    bands = [_bands(losses, scale) for losses in zip(*result.loss, strict=True)]
    low, median, high = zip(*bands, strict=True)
    axes.fill_between(result.points, low, high, color=colour, alpha=0.1, linewidth=0)
    axes.plot(
        result.points,
        median,
        label=label,
        color=colour,
        linewidth=2,
        # A curve that lies on a better one is dashed, so that both show.
        linestyle="-" if label == result.method else (0, (4, 4)),
        # The best method is drawn last, on top of the others; dashes on top of what they lie on.
        zorder=2 + 1 / (1 + place) + (label != result.method),
    )


def _draw_end(axes: Any, place: int, result: MethodResult, colour: str, scale: _Scale) -> None:
    low, median, high = _bands(result.final_loss, scale)
    axes.plot([low, high], [place, place], linewidth=7, alpha=0.3, color=colour)
    axes.plot([median], [place], marker="o", markersize=8, color=colour)
    if result.diverged:
        axes.text(
            0.98,
            place - 0.2,
            f"{100 * result.diverged:.0f} % diverged",
            ha="right",
            va="bottom",
            transform=axes.get_yaxis_transform(),
            color=colour,
        )


def _draw_rates(axes: Any, result: MethodResult, colour: str, scale: _Scale) -> None:
    if not result.validation_loss:
        return
    best: dict[float, float] = {}
    for (rate, _), losses in zip(result.settings, result.validation_loss, strict=True):
        mean = min(sum(losses) / len(losses), scale.beyond)
        best[rate] = min(best.get(rate, math.inf), mean)
    tried = sorted(best)
    axes.plot(tried, [best[rate] for rate in tried], marker="o", markersize=4, color=colour)
    axes.plot(
        [result.learning_rate],
        [best[result.learning_rate]],
        marker="o",
        markersize=11,
        markerfacecolor="none",
        color=colour,
    )


def _draw_norms(
    axes: Any, norms: Norms, results: Sequence[MethodResult], colours: dict[str, str]
) -> None:
    axes.semilogy(norms.steps, norms.series, color="0.55", linewidth=0.8)
    drawn: list[float] = []
    for result in results:
        searched = find_searched(_first(result.method))
        if result.threshold is None or searched is None or searched.unit != "norm":
            continue
        # Lines at one place are drawn beside each other by their dashes.
        offset = 5 * sum(math.isclose(result.threshold, other) for other in drawn)
        axes.axhline(
            result.threshold, color=colours[result.method], linestyle=(offset, (5, 5)), linewidth=2
        )
        drawn.append(result.threshold)
    axes.set(
        title="Gradient norms of AdamW without a clip"
        + (", constant thresholds chosen" if drawn else ""),
        xlabel="step",
        ylabel="norm",
    )
    low, high = axes.get_ylim()
    _write_plainly(axes.yaxis, few=high / low > 30)
    axes.grid(True, color="0.9")
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
