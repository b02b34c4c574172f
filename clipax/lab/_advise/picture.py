"""The picture of advice: norms, spikes, and the thresholds that clips would have had."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np

from clipax.diagnostics import Advice
from clipax.diagnostics._advice._outliers import SPIKE

__all__ = ["draw"]

_COLOURS = ("tab:red", "tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:brown")


def draw(advice: Advice, path: str | PathLike[str] | None = None) -> Any:
    """Draw norms on a log axis over the steps, with the thresholds of `advice.replay()`."""
    # Imported here: matplotlib takes 0.7 s, which the command line need not wait for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    replays = advice.replay()
    series = advice.series
    assert series is not None  # `replay` has raised
    figure = Figure(figsize=(11, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    useful = series.has_gradient
    axes.plot(
        series.steps[useful],
        series.norms[useful],
        linestyle="none",
        marker=".",
        markersize=3,
        color="0.6",
        label=f"{useful.sum():,} norms",
        rasterized=True,
    )
    if useful.any():
        far = useful & (series.norms / SPIKE > np.median(series.norms[useful]))
        if far.any():
            axes.plot(
                series.steps[far],
                series.norms[far],
                linestyle="none",
                marker="o",
                markerfacecolor="none",
                color="black",
                label=f"{far.sum():,} above {SPIKE:g} times the median",
            )
        axes.set_yscale("log")
        low, high = np.min(series.norms[useful]), np.max(series.norms[useful])
        axes.set_ylim(low / 1.5, high * 1.5)
    bad = ~series.is_finite
    if bad.any():
        for place, step in enumerate(series.steps[bad]):
            label = f"{bad.sum():,} not finite" if place == 0 else None
            axes.axvline(step, color="tab:pink", linewidth=0.8, label=label)
    for colour, replay in zip(_COLOURS, replays, strict=False):
        shown = np.where(np.isfinite(replay.thresholds), replay.thresholds, np.nan)
        axes.plot(
            series.steps,
            shown,
            color=colour,
            linewidth=1.3,
            label=f"{replay.name}: clips {100 * replay.share:.3g} %",
        )
    axes.set(xlabel=series.word, ylabel="gradient norm", title="Norms, and thresholds over them")
    axes.grid(True, color="0.9")
    axes.margins(x=0.01)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    if path is not None:
        figure.savefig(path, dpi=110)
    return figure
