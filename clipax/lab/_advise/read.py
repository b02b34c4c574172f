"""Reads the norms of a run from the files that trainers and loggers write."""

from __future__ import annotations

import ast
import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

from clipax.diagnostics._advice._names import find_norms
from clipax.lab._advise.events import is_events, read_events
from clipax.lab._errors import InputError

__all__ = ["read_log"]

_NUMBER = r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?|nan|inf(?:inity)?)"
# A name and a number: `grad_norm: 1.5`, `"gnorm": "1.5"`, `grad norm = 1.5`, `iteration 20/ 100`.
_PAIR = re.compile(
    rf"([a-z][\w./ -]*?)[\"']?\s*(?:[:=]\s*|\s)[\"']?({_NUMBER})(?![\w.])", re.IGNORECASE
)
_ROW_LIKE = re.compile(r"\s*[{(]")


def read_log(file: str, pattern: str | None = None) -> tuple[Any, list[str]]:
    """Read a file as a history for `clipax.advise`.

    Args:
      file: JSON (a `trainer_state.json`), JSON lines, CSV or TSV, TensorBoard's event files or
        their folder, numbers alone, or text with a norm in some lines; "-" for the input.
      pattern: Regular expression that finds the norm in a line of text: its group `norm`, or the
        first; a group `step` is the step.

    Returns:
      The history, and remarks on what was left out.

    Raises:
      InputError: The file cannot be read, or nothing in it looks like norms.
    """
    if is_events(Path(file)):
        if pattern is not None:
            raise InputError("--pattern is for text, not for TensorBoard's event files.")
        return read_events(Path(file)), []
    text = _read_text(file)
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{file} is empty.")
    if pattern is not None:
        return _search(lines, pattern, file)
    try:
        return json.loads(text), []
    except ValueError:
        pass
    for read in (_read_rows, _read_numbers, _read_csv, _read_pairs):
        if (found := read(lines)) is not None:
            return found
    raise InputError(
        f"{file} has no norms in a form that is known: JSON, JSON lines, CSV, numbers, or text "
        r"such as `step: 10 grad_norm: 1.5`. Say what they look like: --pattern 'norm is (\S+)'."
    )


def _read_text(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text("utf-8", "replace")
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}.") from None


def _read_rows(lines: list[str]) -> tuple[Any, list[str]] | None:
    """Read lines that are objects of JSON or dictionaries of Python, as trainers print them."""
    parsed = [_parse(line) for line in lines if _ROW_LIKE.match(line)]
    rows = [row for row in parsed if isinstance(row, dict)]
    if not rows:
        return None
    if bad := len(parsed) - len(rows):
        return rows, [f"{bad:,} of {len(parsed):,} rows cannot be read: left out."]
    return rows, []


def _parse(line: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(line.strip().rstrip(","))
        except (ValueError, SyntaxError):
            continue
    return None


def _read_numbers(lines: list[str]) -> tuple[Any, list[str]] | None:
    """Read norms alone, split by spaces, commas or lines."""
    words = [word for line in lines for word in re.split(r"[\s,;]+", line.strip()) if word]
    try:
        return [float(word) for word in words], []
    except ValueError:
        return None


def _read_csv(lines: list[str]) -> tuple[Any, list[str]] | None:
    """Read a table whose first line names the columns."""
    header = lines[0]
    delimiter = max(",;\t|", key=header.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter))]
    rows = [row for row in csv.reader(lines[1:], delimiter=delimiter) if row]
    whole = [row for row in rows if len(row) == len(names)]
    is_table = len(names) > 1 or bool(find_norms(names))
    if not is_table or not whole or 2 * len(whole) < len(rows) or _PAIR.search(header):
        return None
    columns = {name: [row[place] for row in whole] for place, name in enumerate(names) if name}
    if bad := len(rows) - len(whole):
        return columns, [f"{bad:,} of {len(rows):,} lines have other columns: left out."]
    return columns, []


def _read_pairs(lines: list[str]) -> tuple[Any, list[str]] | None:
    """Read lines of text that name a norm: `step: 10 | loss: 2.3 | grad_norm: 1.5`."""
    rows = []
    for line in lines:
        row = {name.strip().lower(): float(value) for name, value in _PAIR.findall(line)}
        if find_norms(row):
            rows.append(row)
    return (rows, [_count(len(rows), len(lines))]) if rows else None


def _search(lines: list[str], pattern: str, file: str) -> tuple[Any, list[str]]:
    """Search lines for a pattern of the user."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--pattern {pattern!r} is no regular expression: {error}.") from None
    if not expression.groups:
        raise InputError(
            rf"--pattern must have a group for the norm, such as 'norm is (\S+)', got {pattern!r}."
        )
    rows: list[dict[str, Any]] = []
    group = "norm" if "norm" in expression.groupindex else 1
    for found in filter(None, map(expression.search, lines)):
        row = {"grad_norm": found[group]}
        if "step" in expression.groupindex:
            row["step"] = found["step"]
        rows.append(row)
    if not rows:
        raise InputError(f"--pattern {pattern!r} fits none of the {len(lines):,} lines of {file}.")
    return rows, [_count(len(rows), len(lines))]


def _count(found: int, lines: int) -> str:
    return f"Read {found:,} of {lines:,} lines; the others name no norm." if found < lines else ""
