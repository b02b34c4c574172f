"""Reads the norms of a run from the files that trainers and loggers write."""

from __future__ import annotations

import ast
import csv
import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

from clipax.diagnostics._advice._names import find_norms
from clipax.lab._advise.events import is_events, read_events
from clipax.lab._errors import InputError

__all__ = ["read_log"]

_NUMBER = (
    r"[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?|nan|"
    r"inf(?:inity)?)"
)
# A name and a number: `grad_norm: 1.5`, `"gnorm": "1.5"`, `grad norm = 1.5`, `iteration 20/ 100`.
_PAIR = re.compile(
    rf"([a-z][\w./ -]*?)[\"']?\s*(?:[:=]\s*|\s)[\"']?({_NUMBER})(?![\w.])", re.IGNORECASE
)
# `np.float32(1.5)`, `Array(1.5, dtype=float32)`, `tensor(1.5, device='cuda:0')`.
_BOXED = re.compile(rf"\b(?:\w+\.)?\w+\(({_NUMBER})(?:,[^()]*)?\)", re.IGNORECASE)
_BARE = re.compile(r"(?<=[:\s\[,])([-+]?(?:nan|inf))(?=\s*[,}\]])", re.IGNORECASE)
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_RULE = re.compile(r"[\s|:+=-]+")
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
    text = _COLOUR.sub("", _read_text(file))
    # Not `splitlines`, which also splits at characters that JSON has within a text.
    lines = [line for line in re.split(r"\r\n?|\n", text) if line.strip()]
    if not lines:
        raise InputError(f"{file} is empty.")
    if pattern is not None:
        return _search(lines, pattern, file)
    try:
        return _turn(json.loads(text)), []
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
    """Read a file as text, compressed by gzip or not, whatever mark it begins with."""
    if file == "-":
        return sys.stdin.read().removeprefix("\ufeff")
    try:
        content = Path(file).read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise InputError(f"{file} cannot be read: {error}.") from None
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    return content.decode("utf-16" if wide else "utf-8-sig", "replace")


def _turn(history: Any) -> Any:
    """Turn columns by row number, as pandas writes them, to columns."""
    if not isinstance(history, dict) or not history:
        return history
    if all(
        isinstance(one, dict) and one and all(map(str.isdigit, one)) for one in history.values()
    ):
        return {name: list(column.values()) for name, column in history.items()}
    return history


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
    line = line.strip().rstrip(",")
    try:
        return json.loads(line)
    except ValueError:
        pass
    try:  # of Python, whose `nan` is a name
        return ast.literal_eval(_BARE.sub(r"'\1'", _BOXED.sub(r"\1", line)))
    except (ValueError, SyntaxError):
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
    # Lines of dashes are below the names in tables for readers.
    header, *others = [line for line in lines if not _RULE.fullmatch(line)] or lines
    delimiter = max(",;\t|", key=header.count)
    if not header.count(delimiter):  # aligned by spaces
        delimiter, header, *others = " ", *(" ".join(line.split()) for line in (header, *others))
    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter))]
    rows = [
        [cell.strip() for cell in row] for row in csv.reader(others, delimiter=delimiter) if row
    ]
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
        row = {
            name.strip().lower(): float(value.replace(",", ""))
            for name, value in _PAIR.findall(_BOXED.sub(r"\1", line))
        }
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
