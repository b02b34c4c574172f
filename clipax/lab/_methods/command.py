"""The command `clipax methods`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Annotated

import typer

import clipax
from clipax import catalogue
from clipax._twins import list_usual_names
from clipax.catalogue import Entry
from clipax.lab._compare.grids import BASELINES
from clipax.lab._compare.methods import list_untunable
from clipax.lab._errors import InputError
from clipax.lab._methods.page import wrap, write_function_page, write_page
from clipax.lab._methods.search import (
    FUNCTIONS,
    find_exact,
    find_function,
    search,
)

__all__ = ["list_methods"]

_KINDS = {
    "transformation": "Transformations: links of an optax.chain",
    "optimizer": "Optimizers",
    "threshold": "Thresholds: where to clip; `clip_by_global_norm` takes one in place of a number",
    "norm": "Rules on norms: `scale_by_norm` makes a transformation of one",
}


def list_methods(
    word: Annotated[
        str | None,
        typer.Argument(
            help="A name shows one method; other words search names, what optax, PyTorch and "
            "papers call them (zclip, AutoClip, AGC, clip_grad_norm_), titles and authors.",
            show_default=False,
        ),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of the documentation instead.")
    ] = False,
) -> None:
    """List the methods, find some by a word, or show one by its name."""
    if markdown:
        typer.echo(catalogue.markdown_table())
        return
    if word is None:
        _list(catalogue.ENTRIES.values())
        _list_functions()
        _list_baselines()
    elif (entry := find_exact(word)) is not None:
        typer.echo(write_page(entry))
    elif (function := find_function(word)) is not None:
        typer.echo(write_function_page(function))
    elif found := search(word):
        _list(found)
        typer.echo("\n`clipax methods NAME` shows one of them.")
    else:
        raise InputError(f"no method, usual name or paper has {word!r}; `clipax methods` lists all")


def _list(entries: Iterable[Entry]) -> None:
    entries = list(entries)
    first = True
    for kind, title in _KINDS.items():
        chosen = [entry for entry in entries if entry.kind == kind]
        if not chosen:
            continue
        typer.echo(title if first else f"\n{title}")
        first = False
        for entry in chosen:
            names = list_usual_names(entry.name)
            also = f" Also: {', '.join(names)}." if names else ""
            typer.echo(_fold(f"{entry.name}: {entry.summary}{also}"))
            for variant, extra in entry.variants.items():
                given = ", ".join(f"{name}={value!r}" for name, value in extra.items())
                typer.echo(_fold(f"{variant}: {entry.name} with {given}."))


def _list_functions() -> None:
    typer.echo("\nFunctions, in place of `jax.grad`")
    for name in FUNCTIONS:
        names = ", ".join(list_usual_names(name))
        summary = (inspect.getdoc(getattr(clipax, name)) or "").splitlines()[0]
        typer.echo(_fold(f"{name}: {summary} Also: {names}."))


def _list_baselines() -> None:
    typer.echo("\nOptimizers of optax, for `clipax compare`")
    typer.echo(_fold(", ".join(BASELINES)))
    typer.echo(
        "\n`clipax compare --methods` takes optimizers, and transformations in front of"
        "\nthem, as in clip_by_zscore+adamw."
    )
    if left_out := list_untunable():
        typer.echo(_fold(f"Except those without a learning rate: {', '.join(left_out)}.").strip())
    typer.echo("`clipax methods NAME` shows one method, `clipax methods WORD` searches.")


def _fold(text: str) -> str:
    return "\n".join(wrap(f"  {text}", hanging=6))
