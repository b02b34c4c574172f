"""Clipped versions of Adam beside Adam, over seeds, and the tails of the gradients' noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from scipy.stats import norm

from benchmarks.papers.chezhegov2025_tuning import Problem, Run
from benchmarks.papers.claims import Claim, Source, at_most, within
from benchmarks.papers.draw import bands, lines
from benchmarks.papers.intervals import bootstrap
from benchmarks.papers.paper import Panel
from clipax.diagnostics import tail_shares

__all__ = ["compare", "guess", "heavier", "histogram", "percentiles"]

_PERCENTILES = (0.05, 0.5, 0.95)
Runs = Mapping[str, Sequence[Run]]
Statistic = Callable[[np.ndarray], np.ndarray]


def compare(
    problem: Problem, runs: Runs, times: np.ndarray, source: Source
) -> tuple[list[Claim], list[Panel]]:
    """Sets each clipped version beside Adam by the last validation loss.

    Args:
      problem: What they were run on.
      runs: By method, Adam's first, with the same seeds for each.
      times: The steps at which losses were recorded.
      source: Whose claim it is that the clipped ones are better; "ours": that they are no worse.

    Returns:
      Claims, and panels of losses and correlations.
    """
    data, seeds = problem.name, len(runs["Adam"])
    last = {name: np.array([run.losses[-1] for run in some]) for name, some in runs.items()}
    statistics: dict[str, Statistic] = {
        "median": _median,
        "95 % point": lambda x: np.quantile(x, 0.95, axis=-1),
        "width from 5 to 95 %": lambda x: np.ptp(np.quantile(x, (0.05, 0.95), axis=-1), axis=0),
    }
    claims = []
    limit = 1.0 if source == "paper" else 1.01  # ours: a clip costs nothing
    for name in list(runs)[1:]:
        for what, of in statistics.items():
            if seeds < 10 and of is not _median:
                continue  # of so few seeds there is no such percentile

            def ratio(x: np.ndarray, y: np.ndarray, of: Statistic = of) -> np.ndarray:
                return of(x) / of(y)

            pair = last[name], last["Adam"]
            title = f"{data}, {name}: last validation loss over Adam's, {what}"
            interval = bootstrap(ratio, *pair)
            claims.append(at_most(title, limit, ratio(*pair), source=source, interval=interval))
    correlations = {
        name: np.array([run.correlation for run in some]) for name, some in runs.items()
    }
    title = f"{data}, Adam: last validation loss over that of guessing by frequency, median"
    over = last["Adam"] / guess(problem)
    interval = bootstrap(_median, over)
    claims.append(at_most(title, limit, _median(over), source="ours", interval=interval))
    curves = {
        name: (times, np.quantile([run.losses for run in some], _PERCENTILES, axis=0))
        for name, some in runs.items()
    }
    numbers = np.arange(seeds)
    points = {name: (numbers, found) for name, found in correlations.items()}
    panels = [
        Panel(
            f"{data}: validation loss, {seeds} seeds",
            "step",
            "validation loss: median, 5-95 %",
            bands(curves, scales=("linear", "linear")),
        ),
        Panel(
            f"{data}: Matthews correlation at the end",
            "seed",
            "Matthews correlation",
            lines(points, scales=("linear", "linear"), joined=False),
        ),
    ]
    return claims, panels


def guess(problem: Problem) -> float:
    """Loss of guessing by the frequencies of the classes in the validation set."""
    base = np.bincount(problem.validation_classes) / len(problem.validation)
    return -float(np.sum(base[base > 0] * np.log(base[base > 0])))


def _median(x: np.ndarray) -> np.ndarray:
    return np.median(x, axis=-1)


def heavier(place: str, noise: np.ndarray, source: Source) -> list[Claim]:
    """Claims that outliers are more frequent than a normal's.

    Args:
      place: Where the noise was measured.
      noise: Distances of batches' gradients from the whole one; intervals are over them.
      source: Whose claim it is.

    Returns:
      The claims, on shares over a normal's.
    """
    claims = []
    fields = {1.5: "relative_moderate", 3: "relative_extreme"}
    for reach, field in fields.items():
        if source == "ours" and reach == 3:
            continue  # the small encoder has none there

        def share(x: np.ndarray, field: str = field) -> np.ndarray:
            return np.apply_along_axis(lambda row: getattr(tail_shares(row), field), -1, x)

        title = f"{place}: gradient noise beyond Q3 + {reach:g} IQR over a normal's"
        interval = bootstrap(share, noise)
        claims.append(
            within(title, (1.0, math.inf), share(noise), source=source, interval=interval)
        )
    return claims


def histogram(title: str, noise: np.ndarray) -> Panel:
    """A panel of the noise, beside a normal of the same mean and deviation."""
    q1, q3 = np.quantile(noise, (0.25, 0.75))

    def draw(axes: Axes) -> None:
        _, edges, _ = axes.hist(noise, bins=50, color="0.6", log=True)
        x = np.linspace(edges[0], edges[-1], 200)
        density = norm.pdf(x, noise.mean(), noise.std()) * len(noise) * (edges[1] - edges[0])
        axes.plot(x, density, color="black", label="normal, same mean and deviation")
        for place, reach in enumerate((1.5, 3.0)):
            label = f"Q3 + {reach:g} IQR"
            axes.axvline(q3 + reach * (q3 - q1), color=f"C{place}", linestyle="--", label=label)
        axes.set_ylim(bottom=0.5)
        axes.legend()

    return Panel(title, "distance of a batch's gradient from the whole one", "batches", draw)


def percentiles(runs: Runs, of: Callable[[Run], float]) -> str:
    """Words for what runs have at their 5, 50 and 95 % points, method by method."""
    found = {n: np.quantile([of(run) for run in some], _PERCENTILES) for n, some in runs.items()}
    return ", ".join(f"{name} {x[0]:.4f} {x[1]:.4f} {x[2]:.4f}" for name, x in found.items())
