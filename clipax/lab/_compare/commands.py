"""The command `clipax compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from clipax.lab._compare.comparison import compare
from clipax.lab._compare.files import make_folder_error, write_whole
from clipax.lab._compare.methods import DEFAULT_METHODS
from clipax.lab._compare.outcome import Comparison
from clipax.lab._compare.settings import QUICK, Settings, parse_learning_rates
from clipax.lab._compare.words import split_methods
from clipax.lab._console import make_console

__all__ = ["compare_methods"]

_INTERRUPTED = 130


def compare_methods(
    methods: Annotated[
        str,
        typer.Option(
            help="Names separated by commas: an optimizer, or clips in front of one, as in "
            "adamw,zclip+adamw; arguments behind colons: clip_by_zscore:z=3+adamw:b2=0.95. "
            "`clipax methods` lists them.  [default: " + ", ".join(DEFAULT_METHODS) + "]",
            show_default=False,
        ),
    ] = ",".join(DEFAULT_METHODS),
    task: Annotated[
        str,
        typer.Option(
            help="digits, text (a small transformer), breast-cancer, wine, the path of an .npz "
            "(x and y) or LIBSVM file, or module:task of your own."
        ),
    ] = "digits",
    model: Annotated[
        str | None,
        typer.Option(
            help="For examples: mlp, or cnn for images (much slower on a CPU).  [default: mlp]",
            show_default=False,
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            help="Law of xi in the noise s ||g|| / sqrt(d) xi: none, or in every entry gaussian:S, "
            "pareto:ALPHA, skewed-pareto:ALPHA, student-t:DF, alpha-stable:ALPHA, or norm: and one "
            f"of these for all entries at once.  [default: {Settings.noise}; none for a task of "
            "your own]",
            show_default=False,
        ),
    ] = None,
    noise_scale: Annotated[float, typer.Option(help="The scale s of the noise.")] = (
        Settings.noise_scale
    ),
    corrupt: Annotated[
        float | None,
        typer.Option(
            help=f"Share of corrupt batches.  [default: {Settings.corrupt}; 0 for a task of your "
            "own]",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help=f"Updates in a run.  [default: {Settings.steps}]", show_default=False),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Examples in a batch of a built-in task.  [default: 8 sequences, or 32 examples]",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Seeds that the results are reported over; others choose rates and thresholds.  "
            f"[default: {Settings.seeds}]",
            show_default=False,
        ),
    ] = None,
    learning_rates: Annotated[
        str | None,
        typer.Option(
            help="Rates to try for all methods, separated by commas.  [default: four for each "
            "optimizer, and more around the best]",
            show_default=False,
        ),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            help="Runs that are vectorised.  [default: as many as fit, at most 8]",
            min=1,
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for results.jsonl, summary.md and curves.png.")
    ] = Path("clipax-compare"),
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help=f"A trial: {QUICK['steps']} steps and {QUICK['seeds']} seeds."
        ),
    ] = False,
) -> None:
    """Train a model with several clips and optimizers, each at its best setting.

    For each method eight settings of learning rate and threshold are tried, by the loss on a
    validation part over four seeds; the results are those of other seeds on a test part. All
    methods see the same weights, batches and noise. Every finished method is saved at once: the
    same command resumes after an interruption, and more methods can be added with the same
    settings.
    """
    short = QUICK if quick else {}
    try:
        found = compare(
            task,
            split_methods(methods),
            steps=_pick_given(steps, short.get("steps"), Settings.steps),
            seeds=_pick_given(seeds, short.get("seeds"), Settings.seeds),
            noise=noise,
            noise_scale=noise_scale,
            corrupt=corrupt,
            learning_rates=None if learning_rates is None else parse_learning_rates(learning_rates),
            model=model,
            batch_size=batch_size,
            width=width,
            out=out,
        )
        _report(found, out)
    except KeyboardInterrupt:
        typer.echo(
            f"Interrupted. Finished methods are kept in {out}; the same command resumes.", err=True
        )
        raise typer.Exit(_INTERRUPTED) from None


def _pick_given(*values: Any) -> Any:
    """Pick the first value that is not None."""
    return next(value for value in values if value is not None)


def _report(found: Comparison, out: Path) -> None:
    console = make_console()
    found.print(console)
    try:
        write_whole(out / "summary.md", found.to_markdown().encode())
        found.plot(out / "curves.png")
    except OSError as error:
        raise make_folder_error(out, error) from None
    console.print(f"Written to {out}: results.jsonl, summary.md, curves.png", markup=False)
