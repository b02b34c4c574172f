"""Brings the rows or columns of a log, in any nesting, to columns of equal length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Any

from clipax.diagnostics._advice._names import find_norms

__all__ = ["Table", "is_log", "read_table"]

_FIRST = 100
"""Rows that are looked at to tell a log from a state."""
Table = dict[str, Sequence[Any]]
"""Columns by name, levels joined by "/"; None where a row has no such entry."""


def read_table(history: Any, column: str | None = None) -> Table | None:
    """Read rows (a sequence of mappings) or columns (a mapping of vectors); None for others.

    Args:
      history: The log.
      column: The column of norms, where it is known.
    """
    names = getattr(getattr(history, "dtype", None), "names", None)
    if names:  # a structured array
        history = {name: history[name] for name in names}
    elif hasattr(history, "columns") and hasattr(history, "to_dict"):  # a data frame
        history = {name: list(history[name]) for name in history.columns}
    if isinstance(history, Mapping):
        return _from_mapping(history, column)
    return _from_rows(history) if _has_rows(history) else None


def is_log(history: Any) -> bool:
    """Tell whether it is a list of numbers or of rows; a state can be one of mappings too."""
    first = history[:_FIRST] if isinstance(history, list | tuple) else []
    if first and all(isinstance(one, float | int | str | None) for one in first):
        return True
    rows = [dict(_flatten(row)) for row in first if isinstance(row, Mapping)]
    return any(find_norms(row) for row in rows)


def _has_rows(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(row, Mapping) for row in value)


def _from_mapping(history: Mapping[Any, Any], column: str | None) -> Table:
    columns = dict(_flatten(history))
    for value in columns.values():
        if _has_rows(value):
            return _from_rows(value)  # `log_history` of a `trainer_state.json`
    norms = [norm.name for norm in find_norms(columns)] if column is None else [column]
    if any(_is_column(columns.get(name)) for name in norms):
        return {name: value for name, value in columns.items() if _is_column(value)}
    return {name: [value] for name, value in columns.items()}  # one row


def _from_rows(rows: Sequence[Any]) -> Table:
    columns: dict[str, list[Any]] = {}
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping | NoneType):
            raise ValueError(
                "`history_or_state` must hold rows alone where it holds rows (mappings of names to "
                f"numbers), row {place} is a {type(row).__name__}."
            )
        for name, value in _flatten(row or {}):
            if name not in columns:
                columns[name] = [None] * len(rows)
            columns[name][place] = value
    return dict(columns)


def _flatten(fields: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in fields.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{name}/")
        else:
            yield name, value


def _is_column(value: Any) -> bool:
    return isinstance(value, list | tuple) or len(getattr(value, "shape", ())) > 0
