"""What `benchmarks.sweep` measured as it stands in a JSON file: rows, and the runs they are of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.sweep_report import Row

__all__ = ["Content", "before", "load", "merged", "write"]

# What tells one measurement from another; the order of the file's rows.
_KEY = ("leaves", "entries", "dtype", "optimizer", "program")
_FIRST = ("f32", "sgd")
_SETTINGS = ("device", "jax", "optax", "date")


class Content(NamedTuple):
    """A file's content.

    Attributes:
      runs: Versions, device, date and options of each run.
      rows: What was measured; `run` is the place of a row's run in `runs`.
    """

    runs: list[dict[str, str]]
    rows: list[Row]


def before(path: Path | None, *, merge: bool) -> Content:
    """What a run starts from: with `merge` what the file holds, if it is there, else nothing.

    Raises:
      ValueError: There is no file to merge with, no folder for it, or it is malformed.
    """
    if merge and path is None:
        raise ValueError("--merge needs --json PATH.")
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"`{path.parent}` must be a folder.")
    return load(path) if merge and path is not None and path.exists() else Content([], [])


def load(path: Path) -> Content:
    """Reads a file.

    Raises:
      ValueError: It is not one that `write` made; the message says in what.
      OSError: It cannot be read.
    """
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise _malformed(path, f"it is no JSON ({error})") from None
    if not isinstance(found, dict) or not all(
        isinstance(found.get(part), list) and all(isinstance(one, dict) for one in found[part])
        for part in Content._fields
    ):
        raise _malformed(path, "it must have the lists `runs` and `rows` of objects")
    content = Content(found["runs"], found["rows"])
    for number, one in enumerate(content.runs):
        if missing := [name for name in _SETTINGS if not isinstance(one.get(name), str)]:
            raise _malformed(path, f"run {number} does not say its {missing[0]}")
    for number, row in enumerate(content.rows):
        if missing := [name for name in (*_KEY, "run") if name not in row]:
            raise _malformed(path, f"row {number} has no `{missing[0]}`")
        if row["run"] not in range(len(content.runs)):
            raise _malformed(path, f"row {number} is of run {row['run']}, which is not there")
    if len({_key(row) for row in content.rows}) < len(content.rows):
        raise _malformed(path, "two rows are of the same program on the same tree")
    return content


def merged(old: Content, settings: Mapping[str, str], rows: Sequence[Row]) -> Content:
    """A file's content with what a further run measured.

    Args:
      old: The file's.
      settings: Those of the further run.
      rows: What it measured. All rows of the same optimizer on the same tree are replaced, also
        of programs that it left out: what did not take turns with the rest is not comparable.

    Returns:
      All rows, each with its own run; runs of which no row is left are dropped.

    Raises:
      ValueError: The file is of another device.
    """
    for one in old.runs:
        if one["device"] != settings["device"]:
            raise ValueError(
                f"`device` must be that of the file, {one['device']}, got {settings['device']}."
            )
    new = {_key(row)[:4] for row in rows}
    together = [row for row in old.rows if _key(row)[:4] not in new]
    together += [{**row, "run": len(old.runs)} for row in rows]
    runs = [*old.runs, dict(settings)]
    places = {number: i for i, number in enumerate(sorted({row["run"] for row in together}))}
    # Stable: programs stay in the order in which they were measured.
    together.sort(
        key=lambda row: [
            one not in _FIRST if isinstance(one, str) else one for one in _key(row)[:4]
        ]
    )
    return Content(
        [runs[number] for number in places],
        [row | {"run": places[row["run"]]} for row in together],
    )


def write(path: Path, content: Content) -> None:
    """Writes a file; one that is there is replaced once the new one is whole."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(content._asdict(), indent=1) + "\n")
    new.replace(path)


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in _KEY)


def _malformed(path: Path, what: str) -> ValueError:
    return ValueError(f"`{path}` must be a file that benchmarks.sweep wrote: {what}.")
