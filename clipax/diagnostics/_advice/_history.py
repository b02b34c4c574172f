"""Reads the norms of a history: of norms alone, of the rows of a log, of `clipax.metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from clipax.diagnostics._advice._entries import Entries, is_missing, read_entries
from clipax.diagnostics._advice._names import NormColumn, find_norms, find_steps, name_column
from clipax.diagnostics._advice._series import Series
from clipax.diagnostics._advice._tables import Table, read_table

__all__ = ["read_history"]

_NEVER = float(np.finfo(np.float32).max)
"""A threshold from here on never acts."""
_MOST = 8
"""Columns of norms that are judged side by side."""


def read_history(history: Any, column: str | None = None) -> list[Series]:
    """Read the norms of each group, in the order of the steps; one series where there is one.

    Args:
      history: Norms, rows or columns.
      column: The column of norms, levels joined by "/"; None to find those that are called so.
    """
    if isinstance(history, Iterator):
        history = list(history)
    table = read_table(history, column)
    if table is not None:
        return _from_table(table, column)
    if column is not None:
        raise ValueError(f"`column` must be None where there are no columns, got {column!r}.")
    shape = getattr(history, "shape", None)
    is_listed = isinstance(history, list | tuple | range) or (shape is not None and len(shape) == 1)
    try:
        if not is_listed:
            raise ValueError("It is no vector.")
        norms, missing = read_entries(history, "norms")
    except ValueError as error:
        said = str(error) if is_listed else _describe(history)
        raise ValueError(
            "`history_or_state` must be an optimizer state with a clipax transformation that "
            "measures norms, a vector of norms, or a log: rows (mappings such as those of "
            f"`clipax.metrics`) or a mapping of columns. {said}"
        ) from None
    places = np.arange(norms.size)
    series = Series(norms, places, rows=norms.size)
    return [_order(series, missing, np.zeros(norms.size, bool))]


def _describe(history: Any) -> str:
    shape = getattr(history, "shape", None)
    what = f"an array of shape {shape}" if shape is not None else f"a {type(history).__name__}"
    return f"Got {what}."


def _from_table(table: Table, column: str | None) -> list[Series]:
    if column is not None and column not in table:
        names = ", ".join(f"`{name}`" for name in list(table)[:20])
        raise ValueError(f"`column` must be one of {names}, got {column!r}.")
    columns = find_norms(table) if column is None else [name_column(column)]
    if not columns:
        names = ", ".join(f"`{name}`" for name in list(table)[:20]) or "none"
        raise ValueError(
            "`history_or_state` must have a column of gradient norms (`grad_norm`, "
            "`train/grad_norm`, `gnorm`, ...), as `clipax.metrics` and trainers call it. Its "
            f"columns: {names}. Is it one of these, name it as `column`."
        )
    # What `skip_spikes` judged by, beside a clip: of the clip's norms, and those that it skipped.
    columns = [one for one in columns if not one.prefix.endswith("skip_spikes/")] or columns
    totals = [column for column in columns if not column.suffix] or columns
    found = [_read_column(table, column, columns) for column in totals]
    distinct = _leave_out_copies(found)
    if len(distinct) > _MOST:
        names = ", ".join(f"`{one.name}`" for one in distinct[:_MOST])
        raise ValueError(
            f"`history_or_state` must have at most {_MOST} columns of norms, it has "
            f"{len(distinct)} ({names}, ...): give those to judge."
        )
    return distinct if len(distinct) > 1 else [distinct[0]._replace(name="")]


def _leave_out_copies(found: list[Series]) -> list[Series]:
    """Leave out what was measured twice: a monitor's norms are those of the clip behind it."""
    kept: list[Series] = []
    for one in sorted(found, key=lambda series: series.clipped is None):
        if one.clipped is not None or not any(
            np.array_equal(one.steps, other.steps)
            and np.allclose(one.norms, other.norms, rtol=1e-5, atol=0, equal_nan=True)
            for other in kept
        ):
            kept.append(one)
    return [one for one in found if any(one is other for other in kept)]


def _read_column(table: Table, column: NormColumn, columns: list[NormColumn]) -> Series:
    norms, missing = _read(table, column.name)
    series = Series(norms, np.arange(norms.size), column.name, word="row", rows=norms.size)
    series = series._replace(is_raw=column.is_raw)

    def beside(name: str) -> str:
        return f"{column.prefix}{name}{column.suffix}"

    if beside("is_finite") in table:
        # The norm of such a row is that of the last finite step.
        flags = table[beside("is_finite")]
        if len(flags) == norms.size:
            bad = np.fromiter(map(_is_false, flags), bool, norms.size)
            series = series._replace(norms=np.where(bad & ~missing, np.nan, norms))
    missing = missing | _find_gaps(table, series, missing)
    skipped = np.zeros(norms.size, bool)
    # What the guard itself measured (a threshold, and no factor) is of all steps.
    if beside("threshold") not in table or beside("clip_factor") in table:
        skipped = _find_skipped(table, ~missing) & np.isfinite(series.norms)
    series = series._replace(skipped=int(skipped.sum()))
    if beside("threshold") in table and beside("clip_factor") in table:
        series = _read_clip(table, series, column, columns)
    if beside("nonfinite_count") in table:
        counted = _read(table, beside("nonfinite_count"), column.name).numbers
        if (known := counted[np.isfinite(counted)]).size:
            series = series._replace(counted_nonfinite=int(known.max()))
    if series.clipped is not None and beside("clip_fraction") in table:
        counted = _read(table, beside("clip_fraction"), column.name).numbers
        if (known := counted[np.isfinite(counted)]).size:
            series = series._replace(counted_share=float(known[-1]))
    steps = _read_steps(table, ~missing)
    if steps is not None:
        series = series._replace(steps=steps, has_steps=True, word="step")
    return _order(series, missing, skipped)


def _find_skipped(table: Table, there: np.ndarray) -> np.ndarray:
    """Find the rows of steps that a guard skipped: their norm is that of an earlier step."""
    skipped = np.zeros(there.size, bool)
    for name in table:
        if name.split("/")[-1] == "consecutive_skips" and len(table[name]) == there.size:
            skipped |= there & (_read(table, name).numbers > 0)
    return skipped


def _read(table: Table, name: str, like: str = "") -> Entries:
    entries = read_entries(table[name], name)
    if like and len(table[like]) != entries.numbers.size:
        raise ValueError(
            f"`{name}` must be as long as `{like}`, {len(table[like]):,} entries, got "
            f"{entries.numbers.size:,}."
        )
    return entries


def _read_steps(table: Table, there: np.ndarray) -> np.ndarray | None:
    """Read the likeliest column of steps that has one for every norm; None without."""
    for name in find_steps(table):
        try:
            steps = read_entries(table[name], name).numbers
        except ValueError:
            continue
        if steps.size != there.size:
            raise ValueError(
                f"`{name}` must be as long as the norms, {there.size:,} entries, got "
                f"{steps.size:,}."
            )
        if np.isfinite(steps[there]).all():
            counted = steps[there]
            if counted.size == 1 or (counted.size and np.ptp(counted) > 0):
                return steps
    return None


def _read_clip(
    table: Table, series: Series, column: NormColumn, columns: list[NormColumn]
) -> Series:
    """Read what the clip of `clipax.metrics` did; nothing where it never had a threshold."""

    def read(name: str, of: NormColumn = column) -> np.ndarray:
        return _read(table, f"{of.prefix}{name}{of.suffix}", of.name).numbers

    threshold = read("threshold")
    # `metrics` writes the largest float where nothing clips.
    acts = (threshold < _NEVER).any()
    if f"{column.prefix}clip_fraction{column.suffix}" in table:
        acts = acts or (read("clip_fraction") > 0).any()
    if not acts:
        return series
    blocks = [one for one in columns if one.suffix and one.prefix == column.prefix != one.name]
    blocks = [one for one in blocks if f"{one.prefix}threshold{one.suffix}" in table]
    if column.suffix:
        blocks = []
    is_largest = bool(blocks) or f"{column.prefix}top_grad_norm" in table
    finite = np.isfinite(series.norms)
    # With several blocks, the largest norm and the smallest threshold may be of two different ones:
    # the smallest factor tells whether any was clipped.
    clipped = read("clip_factor") < 1 if is_largest else series.norms > threshold
    hits = []
    for one in blocks:
        own = read("threshold", one)
        if (own < _NEVER).any():
            hit = (_read(table, one.name, column.name).numbers > own) & finite
            hits.append((one.suffix.removeprefix("/"), hit))
    return series._replace(clipped=clipped & finite, blocks=tuple(hits), is_largest=is_largest)


def _find_gaps(table: Table, series: Series, missing: np.ndarray) -> np.ndarray:
    """Find the rows whose NaN is a gap: a data frame has one where nothing was logged.

    Such a row is of another kind, of an evaluation: it has entries in columns that no row with a
    norm has, and none in those that such rows alone have. Where a step went wrong, its learning
    rate is still there, or nothing of another kind.
    """
    suspects = np.isnan(series.norms) & ~missing
    sound = np.isfinite(series.norms) & ~missing
    if not suspects.any() or not sound.any():
        return np.zeros(missing.size, bool)
    own, others = np.zeros((2, missing.size), bool)
    for name, values in table.items():
        if name != series.name and len(values) == missing.size:
            there = np.fromiter(map(_is_there, values), bool, missing.size)
            if not there[sound].any():
                others |= there
            elif there[sound].all() and not there.all():
                own |= there
    return suspects & others & ~own


def _is_there(value: Any) -> bool:
    if len(getattr(value, "shape", ())) > 0:
        return True
    return not is_missing(value) and value == value and str(value).strip().lower() != "nan"


def _is_false(value: Any) -> bool:
    """Tell whether a flag is false, as text too."""
    if isinstance(value, str):
        return value.strip().lower() in ("false", "0", "0.0")
    return not is_missing(value) and not bool(value)


def _order(series: Series, missing: np.ndarray, skipped: np.ndarray) -> Series:
    """Leave out the rows without a norm, sort by step, keep the last of the rows of a step."""
    there = np.flatnonzero(~(missing | skipped))
    steps = series.steps
    places = np.where(np.isfinite(steps), steps, np.arange(steps.size))[missing]
    order = there[np.argsort(steps[there], kind="stable")]
    ordered = steps[order]
    last = np.append(ordered[1:] != ordered[:-1], np.ones(min(ordered.size, 1), bool))
    kept = order[last]
    if (bad := np.flatnonzero(series.norms[kept] < 0)).size:
        place, norm = kept[bad[0]], series.norms[kept[bad[0]]]
        raise ValueError(
            f"`history_or_state` must hold norms, which are not negative, got {norm:g} at "
            f"{series.word} {steps[place]:g}."
        )
    whole = bool(np.all(steps[kept] == np.round(steps[kept])))

    return series._replace(
        norms=series.norms[kept],
        steps=steps[kept].astype(np.int64) if whole else steps[kept],
        missing=places,
        repeated=int(order.size - kept.size),
        was_ordered=bool(np.all(np.diff(steps[there]) >= 0)),
        clipped=None if series.clipped is None else series.clipped[kept],
        blocks=tuple((name, hit[kept]) for name, hit in series.blocks),
    )
