"""Writes what the catalogue and the docstring say of one method, as plain text."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax
from clipax._twins import list_usual_names
from clipax.catalogue import PAPERS, RECOVERS, Entry

__all__ = ["wrap", "write_function_page", "write_page"]

_WIDTH = 79
_ENTRIES = 1000


def write_page(entry: Entry) -> str:
    """Write the page of a method: what it does, its formula, arguments, memory and faults."""
    about, arguments = _read_docstring(entry.factory)
    parts = [f"clipax.{entry.name} ({entry.kind})", ""]
    if names := _write_usual_names(entry.name):
        parts += [*wrap(f"Also  {names}", hanging=6), ""]
    parts += wrap(about)
    rows = [("Formula", entry.formula)]
    rows += [
        ("Paper", f"{paper}: {paper.title}") for paper in (PAPERS[key] for key in entry.papers)
    ]
    rows += [("State", _describe_state(entry)), ("Faults", _describe_faults(entry))]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        parts += wrap(f"{name:{width}}  {text}", hanging=width + 2)
    parts += _list_arguments(arguments)
    return "\n".join([*parts, "", f"More: help(clipax.{entry.name}); docs/speed.md has times."])


def write_function_page(name: str) -> str:
    """Write the page of a public function that is no entry of the catalogue."""
    about, arguments = _read_docstring(getattr(clipax, name))
    parts = [f"clipax.{name} (function)", ""]
    parts += [*wrap(f"Also  {_write_usual_names(name)}", hanging=6), "", *wrap(about)]
    parts += _list_arguments(arguments)
    return "\n".join([*parts, "", f"More: help(clipax.{name})."])


def _write_usual_names(name: str) -> str:
    """Write what it is called elsewhere, and with which arguments it is that."""
    found = list_usual_names(name).items()
    return ", ".join(f"{usual} ({given})" if given else usual for usual, given in found)


def _list_arguments(arguments: Iterable[tuple[str, str]]) -> list[str]:
    lines = ["", "Arguments"]
    for name, text in arguments:
        lines += wrap(f"  {name}: {text}", hanging=6)
    return lines


def wrap(text: str, hanging: int = 0) -> list[str]:
    """Break a text into lines of a terminal; all but the first are indented."""
    return textwrap.wrap(
        text,
        _WIDTH,
        subsequent_indent=" " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _read_docstring(function: Callable[..., Any]) -> tuple[str, list[tuple[str, str]]]:
    """Read the first two paragraphs and the arguments."""
    text = inspect.getdoc(function) or ""
    paragraphs = text.split("\n\n")
    about = " ".join(" ".join(part.split()) for part in paragraphs[:2] if part[0] != " ")
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    found = (
        re.findall(r"^  (\w+): (.*?)(?=^  \w+: |\Z)", section[1], re.M | re.S) if section else []
    )
    return about, [(name, " ".join(said.split())) for name, said in found]


def _describe_state(entry: Entry) -> str:
    """Say what it remembers beside copies of the parameters."""
    method = entry.factory(**entry.example)
    transformation: optax.GradientTransformation = method
    if entry.kind == "threshold":
        transformation = clipax.clip_by_global_norm(method)
    elif entry.kind == "norm":
        transformation = clipax.scale_by_norm(method)
    state = jax.eval_shape(transformation.init, jnp.zeros(_ENTRIES))
    sizes = [int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)]
    whole = _ENTRIES * 4
    copies = sum(size // whole for size in sizes if size % whole == 0)
    rest = sum(size for size in sizes if size % whole)
    text = f"{rest:,} bytes for each norm"
    return f"{copies:g} times the parameters in float32, and {text}" if copies else text


def _describe_faults(entry: Entry) -> str:
    """Say what becomes of it after bad steps."""
    if entry.verdict != RECOVERS:
        text = "by its definition it does not recover from one huge gradient in 200 steps"
    else:
        text = "a NaN, an infinity or one huge gradient leaves no trace after 200 steps"
    for fault, why in entry.lasting.items():
        text += f"; {fault}: {why}"
    return f"{text}."
