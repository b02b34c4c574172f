"""The commands, as typer reads them; `clipax.cli` runs them and turns errors into one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import clipax
from clipax.lab._advise.command import advise_on_file
from clipax.lab._compare.comparison import compare
from clipax.lab._compare.files import make_folder_error, write_whole
from clipax.lab._compare.methods import DEFAULT_METHODS
from clipax.lab._compare.plots import plot_curves
from clipax.lab._compare.report import make_table, make_title, write_remarks, write_summary
from clipax.lab._compare.results import MethodResult
from clipax.lab._compare.settings import QUICK, Settings, parse_learning_rates
from clipax.lab._console import make_console
from clipax.lab._methods.command import list_methods

__all__ = ["app"]

app = typer.Typer(
    name="clipax",
    help="Gradient clipping for JAX: advice on the run that you have, methods compared on real "
    "data, and the list of what there is.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("advise", short_help="Say what a run's gradient norms tell about its clip.")(
    advise_on_file
)
app.command("methods", short_help="List the methods, find some, or show one.")(list_methods)
_INTERRUPTED = 130


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clipax {clipax.__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Say which version."
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


class _Bar:
    """Shows progress on stderr, so that stdout holds the table alone."""

    def __init__(self) -> None:
        self._progress = Progress(
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=make_console(stderr=True),
        )
        self._task = self._progress.add_task("")

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress.live.is_started:
            self._progress.stop()

    def tell(self, remark: str) -> None:
        self._progress.console.print(remark, markup=False)

    def begin(self, stretches: int, kept: Sequence[str]) -> None:
        # The bar starts only now: bad input, which is checked first, ends with one line and no bar.
        if kept:
            self._progress.console.print(f"kept from the last run: {', '.join(kept)}")
        if stretches:
            self._progress.update(self._task, total=stretches)
            self._progress.start()

    def begin_method(self, name: str) -> None:
        self._progress.update(self._task, description=name)

    def advance(self) -> None:
        self._progress.advance(self._task)

    def end_method(self, result: MethodResult) -> None:
        self._progress.console.print(f"saved {result.method} ({result.seconds:.0f} s)")


@app.command("compare", short_help="Train with several optimizers and compare them.")
def _compare(
    methods: Annotated[
        str,
        typer.Option(
            help="Names separated by commas, or `all`; `clipax methods` lists them.  [default: "
            f"{', '.join(DEFAULT_METHODS)}]",
            show_default=False,
        ),
    ] = ",".join(DEFAULT_METHODS),
    data: Annotated[
        str,
        typer.Option(
            help="digits, breast-cancer, wine, or the path of an .npz (x and y) or LIBSVM file."
        ),
    ] = Settings.data,
    model: Annotated[
        str, typer.Option(help="mlp, or cnn for images (much slower on a CPU).")
    ] = Settings.model,
    noise: Annotated[
        str,
        typer.Option(
            help="Law of xi in the noise s ||g|| / sqrt(d) xi: none, gaussian:S, pareto:ALPHA, "
            "skewed-pareto:ALPHA, student-t:DF, alpha-stable:ALPHA."
        ),
    ] = Settings.noise,
    noise_scale: Annotated[float, typer.Option(help="The scale s of the noise.")] = (
        Settings.noise_scale
    ),
    threshold: Annotated[
        float, typer.Option(help="Threshold of the methods that take one.")
    ] = Settings.threshold,
    steps: Annotated[
        int | None,
        typer.Option(help=f"Updates in a run.  [default: {Settings.steps}]", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Examples in a batch.")] = Settings.batch_size,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Seeds that the results are reported over; others choose the learning rates.  "
            f"[default: {Settings.seeds}]",
            show_default=False,
        ),
    ] = None,
    learning_rates: Annotated[
        str | None,
        typer.Option(
            help="Rates to try for all methods, separated by commas.  [default: a grid for each "
            "method]",
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
    """Train a network with several optimizers under noisy gradients and compare them.

    For each method the learning rate is chosen on a validation split; the results are those of
    other seeds on a test split. All methods see the same batches and the same noise. Every
    finished method is saved at once: the same command resumes after an interruption, and more
    methods can be added with the same settings.
    """
    short = QUICK if quick else {}
    settings = Settings(
        data=data,
        model=model,
        noise=noise,
        noise_scale=noise_scale,
        threshold=threshold,
        steps=_pick_given(steps, short.get("steps"), Settings.steps),
        batch_size=batch_size,
        seeds=_pick_given(seeds, short.get("seeds"), Settings.seeds),
        learning_rates=None if learning_rates is None else parse_learning_rates(learning_rates),
    )
    names = [name.strip() for name in methods.split(",") if name.strip()]
    try:
        with _Bar() as bar:
            results = compare(settings, names, out, bar)
        _report(results, settings, out)
    except KeyboardInterrupt:
        typer.echo(
            f"Interrupted. Finished methods are kept in {out}; the same command resumes.", err=True
        )
        raise typer.Exit(_INTERRUPTED) from None


def _pick_given(*values: Any) -> Any:
    """Pick the first value that is not None."""
    return next(value for value in values if value is not None)


def _report(results: Sequence[MethodResult], settings: Settings, out: Path) -> None:
    console = make_console()
    console.print(make_table(results, settings))
    for remark in write_remarks(results):
        console.print(remark, markup=False)
    try:
        write_whole(out / "summary.md", write_summary(results, settings).encode())
        plot_curves(results, make_title(settings), out / "curves.png")
    except OSError as error:
        raise make_folder_error(out, error) from None
    console.print(f"Written to {out}: results.jsonl, summary.md, curves.png", markup=False)
