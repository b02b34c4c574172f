"""The command `clipax advise`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from clipax.diagnostics import Advice, advise
from clipax.lab._advise.read import read_log
from clipax.lab._console import make_console
from clipax.lab._errors import InputError

__all__ = ["advise_on_file"]


def advise_on_file(
    file: Annotated[
        str,
        typer.Argument(
            help="trainer_state.json or other JSON, JSON lines, CSV, TSV, numbers, text with "
            "`grad_norm: 1.5` in its lines, TensorBoard's event files or their folder; - for the "
            "input."
        ),
    ],
    threshold: Annotated[
        float | None, typer.Option(help="The threshold of the run: says what it did.")
    ] = None,
    quantile: Annotated[
        float, typer.Option(help="Share of the steps that the proposed threshold lets pass.")
    ] = 0.9,
    column: Annotated[
        str | None,
        typer.Option(
            help="Name of the column of norms.  [default: found by its name]", show_default=False
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            help="Regular expression for lines of text: its group `norm`, or the first, is the "
            "norm, a group `step` the step.",
            show_default=False,
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            help="File for a picture: norms, and thresholds over them.", show_default=False
        ),
    ] = None,
) -> None:
    """Say what a run's gradient norms tell about its clip, and propose a threshold.

    Reads the logs that trainers write, finds the norms (`grad_norm`, `train/grad_norm`, `gnorm`,
    ...), and says what is missing, zero or not finite and where, how they drift, where they spike,
    and what each clip would have done with them.
    """
    history, remarks = read_log(file, pattern)
    try:
        advice = advise(history, quantile=quantile, threshold=threshold, column=column)
    except (TypeError, ValueError) as error:
        raise InputError(_rename_arguments(str(error), file)) from None
    for line in (*filter(None, remarks), *advice.findings):
        typer.echo(line)
    for name, part in (advice.groups or {"": advice}).items():
        if part.series is not None:
            _print_replays(part, name)
    if picture is not None:
        _draw(advice, picture)


def _rename_arguments(message: str, file: str) -> str:
    """Write the names of arguments as those of options."""
    message = message.replace("`history_or_state`", file)
    for name in ("threshold", "quantile", "column"):
        message = message.replace(f"`{name}`", f"--{name}")
    return message


def _print_replays(advice: Advice, name: str) -> None:
    series = advice.series
    assert series is not None
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("clip")
    for column in ("clips", "smallest factor", f"longest stretch without a {series.word}"):
        table.add_column(column, justify="right")
    for replay in advice.replay():
        stop = replay.stop
        where = f"{stop.length:,} ({series.between(stop.first, stop.last)})" if stop else "-"
        table.add_row(
            replay.name, f"{100 * replay.share:.3g} %", f"{replay.smallest_factor:.3g}", where
        )
    console = make_console()
    typer.echo(f"\nWhat clips would have done with these norms{f' ({name})' if name else ''}:")
    console.print(table)


def _draw(advice: Advice, picture: Path) -> None:
    if advice.groups:
        names = ", ".join(advice.groups)
        raise InputError(f"--picture draws one column of norms: choose one by --column of {names}.")
    try:
        advice.plot(picture)
    except (OSError, ValueError) as error:
        raise InputError(f"--picture {picture} cannot be written: {error}") from None
    typer.echo(f"Written to {picture}")
