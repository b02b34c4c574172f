"""The commands, as typer reads them; `clipax.cli` runs them and turns errors into one line."""

from __future__ import annotations

from typing import Annotated

import typer

import clipax
from clipax.lab._advise.command import advise_on_file
from clipax.lab._compare.commands import compare_methods
from clipax.lab._methods.command import list_methods

__all__ = ["app"]

app = typer.Typer(
    name="clipax",
    help="Gradient clipping for JAX: advice on the run that you have, clips compared on a model of "
    "yours or ours, and the list of what there is.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("advise", short_help="Say what a run's gradient norms tell about its clip.")(
    advise_on_file
)
app.command("compare", short_help="Train with several clips and optimizers and compare them.")(
    compare_methods
)
app.command("methods", short_help="List the methods, find some, or show one.")(list_methods)


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
