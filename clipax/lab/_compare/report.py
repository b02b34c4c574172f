"""The table of results, for the terminal and as Markdown, and the remarks below it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import optax
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

import clipax
from clipax.lab._compare.plan import SELECTION_SEEDS
from clipax.lab._compare.results import (
    Losses,
    MethodResult,
    quantile,
    write_loss,
    write_percent,
)
from clipax.lab._compare.settings import Settings
from clipax.lab._compare.verdict import count_wins

__all__ = ["make_table", "make_title", "write_document", "write_remarks"]


class _Column(NamedTuple):
    name: str
    write: Callable[[MethodResult], str]


def _write_band(result: MethodResult) -> str:
    low, high = (quantile(result.final_loss, q) for q in (0.05, 0.95))
    return f"{write_loss(low)}-{write_loss(high)}"


def _write_score(name: str, result: MethodResult) -> str:
    kept = [value for value in result.final(name) if math.isfinite(value)]
    if not kept:
        return "-"
    median = quantile(kept, 0.5)
    return f"{100 * median:.1f}" if name == "accuracy" else write_loss(median)


def _write_clipped(result: MethodResult) -> str:
    shares = result.clip_fraction
    return "-" if shares is None else write_percent(sum(shares) / len(shares))


def _write_threshold(result: MethodResult) -> str:
    mark = "*" if result.threshold_edge else ""
    return "-" if result.threshold is None else f"{result.threshold:.3g}{mark}"


def _list_columns(results: Sequence[MethodResult]) -> list[_Column]:
    """List the columns that these results need."""
    by_name = {result.method: result for result in results}

    def write_wins(result: MethodResult) -> str:
        plain = by_name.get(result.plain or "")
        return "-" if plain is None else f"{count_wins(result, plain)}/{len(result.seeds)}"

    columns = [
        _Column("method", lambda result: result.method),
        _Column("loss", lambda result: write_loss(quantile(result.final_loss, 0.5))),
        _Column("5-95 %", _write_band),
    ]
    for name in dict.fromkeys(name for result in results for name in result.scores):
        if name != "loss":
            title = "acc %" if name == "accuracy" else name
            columns.append(_Column(title, functools.partial(_write_score, name)))
    if any(result.plain in by_name for result in results):
        columns.append(_Column("wins", write_wins))
    if any(result.diverged for result in results):
        columns.append(_Column("div %", lambda result: f"{100 * result.diverged:.0f}"))
    return [
        *columns,
        _Column("clip %", _write_clipped),
        _Column("rate", lambda r: f"{r.learning_rate:.3g}" + ("*" if r.edge else "")),
        _Column("thresh.", _write_threshold),
        _Column("tried", lambda result: f"{len(result.settings)}"),
    ]


def make_title(task: str, settings: Settings) -> str:
    """Make the title of a comparison, one line.

    Args:
      task: its name.
      settings: the comparison's.

    Returns:
      Task, noise and length.
    """
    noise = "no noise added"
    if settings.noise != "none":
        noise = f"noise {settings.noise_scale:g} {settings.noise}"
    corrupt = f"{100 * settings.corrupt:g} % corrupt batches, " if settings.corrupt else ""
    return f"{task}: {corrupt}{noise}, {settings.steps} steps"


# From the widest table to the narrowest: whether an optimizer goes on a line below its clip, and
# which columns are left out.
_LAYOUTS: tuple[tuple[bool, tuple[str, ...]], ...] = (
    (False, ()),
    (True, ()),
    (True, ("tried", "acc %")),
    (True, ("tried", "acc %", "5-95 %", "thresh.")),
)


def make_table(results: Sequence[MethodResult], title: str, width: int) -> Table:
    """Make a table of the results for the terminal.

    Args:
      results: the best first.
      title: stands above it.
      width: the terminal's; in a narrow one the names are folded and some columns left out.

    Returns:
      A rich table.
    """
    for fold, without in _LAYOUTS:
        columns = [one for one in _list_columns(results) if one.name not in without]
        rows = [[column.write(result) for column in columns] for result in results]
        if fold:
            rows = [[row[0].replace("+", "\n+"), *row[1:]] for row in rows]
        lines = [[column.name for column in columns], *rows]
        widths = [
            max(len(word) for cell in cells for word in cell.split("\n"))
            for cells in zip(*lines, strict=True)
        ]
        if sum(widths) + len(widths) - 1 <= width:
            break
    # As texts: names in brackets are no markup.
    shown = Table(box=SIMPLE_HEAD, title=Text(title), padding=0, show_edge=False)
    shown.add_column(columns[0].name, overflow="fold")
    for column in columns[1:]:
        shown.add_column(column.name, justify="right", no_wrap=True)
    for position, row in enumerate(rows):
        shown.add_row(*map(Text, row), style="bold" if position == 0 else None)
    return shown


def _measure(rows: Sequence[Sequence[str]]) -> int:
    """Measure the width of a table, a space between its columns."""
    longest = [max(map(len, "\n".join(cells).split("\n"))) for cells in zip(*rows, strict=True)]
    return sum(longest) + len(longest) - 1


def write_remarks(results: Sequence[MethodResult]) -> list[str]:
    """Write remarks on the table, one or two sentences each.

    Args:
      results: the best first.

    Returns:
      Warnings about rates at the edge of those tried, the rates at which methods diverged, and
      methods that took the same steps.
    """
    remarks = []
    for result in results:
        if result.edge:
            further = "smaller" if result.edge == "smallest" else "larger"
            remarks.append(
                f"Warning: the best rate of {result.method}, {result.learning_rate:g}, is the "
                f"{result.edge} tried; a {further} one may do better (learning_rates)."
            )
        if result.threshold_edge:
            remarks.append(
                f"The best {result.argument} of {result.method}, {result.threshold:.3g}, is the "
                f"{result.threshold_edge} tried; others can be given as an argument."
            )
    for result in results:
        if lost := _lost(result):
            remarks.append(f"{result.method} diverged at learning rates {lost}.")
    for twins in _twins(results):
        remarks.append(f"{' and '.join(twins)} took the same steps at these settings.")
    return remarks


def _lost(result: MethodResult) -> str:
    """List the rates at which selection runs diverged, and how many of them did."""
    # `validation_loss` is empty where only one setting was given.
    tried: dict[float, list[float]] = {}
    for (rate, _), losses in zip(result.settings, result.validation_loss, strict=False):
        tried.setdefault(rate, []).extend(losses)
    return ", ".join(
        f"{rate:g} ({count} of {len(losses)} runs)"
        for rate, losses in sorted(tried.items())
        if (count := sum(map(math.isinf, losses)))
    )


def _twins(results: Sequence[MethodResult]) -> list[list[str]]:
    """Group methods whose curves are equal, except those that diverged everywhere."""
    groups: dict[Losses, list[str]] = {}
    for result in results:
        if result.diverged < 1:
            groups.setdefault(result.loss, []).append(result.method)
    return [group for group in groups.values() if len(group) > 1]


def write_document(
    results: Sequence[MethodResult],
    title: str,
    task: str,
    settings: Settings,
    summary: Sequence[str],
) -> str:
    """Write the results as a Markdown document.

    Args:
      results: the best first.
      title: the document's.
      task: the task's name.
      settings: what the results were made with.
      summary: what they say.

    Returns:
      The table, the summary, the remarks, how to read them, and how to make them again.
    """
    columns = _list_columns(results)
    header = f"| {' | '.join(column.name for column in columns)} |"
    rule = "| --- |" + " ---: |" * (len(columns) - 1)
    rows = [f"| {' | '.join(column.write(result) for column in columns)} |" for result in results]
    noted = [f"- {remark}" for remark in write_remarks(results)]
    first, last = settings.test_seeds[0], settings.test_seeds[-1]
    made = [
        f"- {name.replace('_', ' ')}: {value}"
        for name, value in settings.record(task, "").items()
        if value not in (None, "") and name != "clipax"
    ]
    lines = [
        f"# {title}",
        "",
        header,
        rule,
        *rows,
        "",
        *(f"{sentence}\n" for sentence in summary),
        *noted,
        *([""] if noted else []),
        f"`loss` is the median on the test part over seeds {first} to {last}, beside it the 5 % "
        "and 95 % quantiles; a diverged run counts as infinite. `wins` are the seeds on which it "
        "is below that of the same optimizer without a clip, `div` the share of diverged seeds, "
        "`clip` the share of steps that were clipped or skipped (`-`: the optimizer does not clip, "
        "or does not record it), `rate` the learning rate (`*`: the smallest or largest tried), "
        "`thresh.` likewise the threshold, where one was searched (its argument is below), "
        "`tried` the number of settings of both.",
        "",
        f"The settings have the lowest mean validation loss over seeds {SELECTION_SEEDS[0]} "
        f"to {SELECTION_SEEDS[-1]}, where a diverged run counts as the worst of them, and "
        "no less than before training. For each seed all methods see the same initial weights, "
        "batches and noise.",
        "",
        "![Losses, norms and the choice of the rate](curves.png)",
        "",
        "## The methods in Python",
        "",
        *(f"- `{result.python}`" for result in results),
        "",
        "## Settings",
        "",
        *made,
        f"- versions: clipax {clipax.__version__}, jax {jax.__version__}, "
        f"optax {optax.__version__}",
        "",
    ]
    return "\n".join(lines)
