"""The table of results, for the terminal and as Markdown, and the remarks below it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import optax
from rich.box import SIMPLE_HEAD
from rich.table import Table

import clipax
from clipax.lab._compare.results import MethodResult, quantile
from clipax.lab._compare.settings import SELECTION_SEEDS, Settings

__all__ = ["make_table", "make_title", "write_remarks", "write_summary"]

_COLUMNS = ("method", "loss", "5-95 %", "acc %", "5-95 %", "div %", "clip %", "rate")


class _Row(NamedTuple):
    method: str
    loss: str
    loss_band: str
    accuracy: str
    accuracy_band: str
    diverged: str
    clipped: str
    rate: str


def _loss(value: float) -> str:
    if math.isinf(value):
        return "inf"
    return f"{value:.3f}" if value < 100 else f"{value:.0f}"


def _row(result: MethodResult) -> _Row:
    low, median, high = (quantile(result.final_loss, q) for q in (0.05, 0.5, 0.95))
    worst, middle, best = (100 * quantile(result.final_accuracy, q) for q in (0.05, 0.5, 0.95))
    clipped = "-"
    if result.clip_fraction is not None:
        clipped = f"{100 * sum(result.clip_fraction) / len(result.clip_fraction):.0f}"
    return _Row(
        result.method,
        _loss(median),
        f"{_loss(low)}-{_loss(high)}",
        f"{middle:.1f}",
        f"{worst:.1f}-{best:.1f}",
        f"{100 * result.diverged:.0f}",
        clipped,
        f"{result.learning_rate:g}" + ("*" if result.edge else ""),
    )


def make_title(settings: Settings) -> str:
    """Make the title of a comparison, one line.

    Args:
      settings: the comparison's.

    Returns:
      Data, model, noise and length.
    """
    noise = "no gradient noise"
    if settings.noise != "none":
        scale = "" if settings.noise_scale == 1 else f", scale {settings.noise_scale:g}"
        noise = f"gradient noise {settings.noise}{scale}"
    data = Path(settings.data).name
    return f"{data}, {settings.model}, {noise}, {settings.steps} steps"


def make_table(results: Sequence[MethodResult], settings: Settings) -> Table:
    """Make a table of the results for the terminal.

    Args:
      results: the best first.
      settings: what they were made with.

    Returns:
      A rich table, which fits a window of 80 columns.
    """
    shown = Table(box=SIMPLE_HEAD, title=make_title(settings), padding=0, show_edge=False)
    shown.add_column(_COLUMNS[0], overflow="fold")
    for column in _COLUMNS[1:]:
        # In a narrow window the names are folded, never the numbers.
        shown.add_column(column, justify="right", no_wrap=True)
    for position, result in enumerate(results):
        shown.add_row(*_row(result), style="bold" if position == 0 else None)
    return shown


def write_remarks(results: Sequence[MethodResult]) -> list[str]:
    """Write remarks on the table, one or two sentences each.

    Args:
      results: the best first.

    Returns:
      Warnings about rates at the edge of the grid, the rates at which methods diverged, and
      methods that took the same steps.
    """
    remarks = []
    for result in results:
        if result.edge:
            further = "smaller" if result.edge == "smallest" else "larger"
            remarks.append(
                f"Warning: the best rate of {result.method}, {result.learning_rate:g}, is the "
                f"{result.edge} tried; a {further} one may do better (--learning-rates)."
            )
    for result in results:
        if lost := _lost(result):
            remarks.append(f"{result.method} diverged at learning rates {lost}.")
    for twins in _twins(results):
        remarks.append(f"{' and '.join(twins)} took the same steps at these settings.")
    return remarks


def _lost(result: MethodResult) -> str:
    """List the rates at which selection runs diverged, and how many of them did."""
    # `validation_loss` is empty where only one rate was given.
    tried = zip(result.learning_rates, result.validation_loss, strict=False)
    return ", ".join(
        f"{rate:g} ({count} of {len(losses)} seeds)"
        for rate, losses in tried
        if (count := sum(map(math.isinf, losses)))
    )


def _twins(results: Sequence[MethodResult]) -> list[list[str]]:
    """Group methods whose curves are equal, except those that diverged everywhere."""
    groups: dict[tuple[tuple[float, ...], ...], list[str]] = {}
    for result in results:
        if result.diverged < 1:
            groups.setdefault(result.loss, []).append(result.method)
    return [group for group in groups.values() if len(group) > 1]


def write_summary(results: Sequence[MethodResult], settings: Settings) -> str:
    """Write the results as a Markdown document.

    Args:
      results: the best first.
      settings: what they were made with.

    Returns:
      The table, the remarks, how to read them, and how to make them again.
    """
    header = f"| {' | '.join(_COLUMNS)} |"
    rule = "| --- |" + " ---: |" * (len(_COLUMNS) - 1)
    rows = [f"| {' | '.join(_row(result))} |" for result in results]
    noted = [f"- {remark}" for remark in write_remarks(results)]
    first, last = settings.test_seeds[0], settings.test_seeds[-1]
    made = [
        f"- {name.replace('_', ' ')}: {value}"
        for name, value in settings.record("").items()
        if value not in (None, "") and name != "clipax"
    ]
    lines = [
        f"# {make_title(settings)}",
        "",
        header,
        rule,
        *rows,
        "",
        *noted,
        *([""] if noted else []),
        f"`loss` and `acc` are medians on the test split over seeds {first} to {last}, the bands "
        "5 % and 95 % quantiles. A diverged run counts as infinite loss and accuracy 0. "
        "`div` is the share of diverged seeds, `clip` the share of steps whose gradient was "
        "clipped (`-`: the optimizer does not clip, or does not record it), `rate` the learning "
        "rate (`*`: at the edge of those tried).",
        "",
        f"Each learning rate has the lowest mean validation loss over seeds {SELECTION_SEEDS[0]} "
        f"to {SELECTION_SEEDS[-1]}, where a diverged run counts as the worst loss of the grid, and "
        "no less than guessing. For each seed all methods see the same initial weights, batches "
        "and noise.",
        "",
        "![Test loss against steps](curves.png)",
        "",
        "## Settings",
        "",
        *made,
        f"- versions: clipax {clipax.__version__}, jax {jax.__version__}, "
        f"optax {optax.__version__}",
        "",
    ]
    return "\n".join(lines)
