"""Results as lines of strict JSON, and the checks of lines that something else may have written."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["check_result", "read_line", "write_line"]


def write_line(record: dict[str, Any]) -> str:
    """Write one line of strict JSON, with null for what is not finite."""
    return json.dumps(_finite_or_null(record), allow_nan=False)


def read_line(line: bytes) -> Any:
    """Read a line of strict JSON; raise ValueError with the reason."""
    try:
        return json.loads(line, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg}") from None
    except RecursionError:
        raise ValueError("is not JSON: nested too deeply") from None


def check_result(record: Any, names: Sequence[str]) -> dict[str, Any]:
    """Read the fields of a result from the value of its line; raise ValueError with the reason."""
    fields = record.get("result") if isinstance(record, dict) else None
    if not isinstance(fields, dict):
        raise ValueError("has no result")
    for name in names:
        if name not in fields:
            raise ValueError(f"lacks the field {name}")
    for name in fields:
        if name not in names:
            raise ValueError(f"has an unknown field {name[:40]}")
    values = {name: _to_tuples(name, value) for name, value in fields.items()}
    if isinstance(fields["scores"], dict):
        values["scores"] = {
            name: _to_tuples(name, value) for name, value in fields["scores"].items()
        }
    for name, rule, holds in _rules(values):
        try:
            good = bool(holds(values[name]))
        except (TypeError, ValueError, LookupError, OverflowError):
            good = False
        if not good:
            raise ValueError(f"must have {rule} as {name}")
    return values


def _rules(fields: dict[str, Any]) -> list[tuple[str, str, Callable[[Any], Any]]]:
    """List name, rule and check of each field, those first that others refer to."""
    settings, seeds, points = (fields[name] for name in ("settings", "seeds", "points"))
    return [
        ("method", "a name", lambda v: isinstance(v, str) and v),
        ("plain", "a name, or null", lambda v: v is None or (isinstance(v, str) and v)),
        ("argument", "a name, or null", lambda v: v is None or (isinstance(v, str) and v)),
        (
            "settings",
            "pairs of a learning rate and a threshold",
            lambda v: v and all(_setting(x) for x in v),
        ),
        ("chosen", "the place of a setting", lambda v: type(v) is int and settings[v] and v >= 0),
        ("python", "a text", lambda v: isinstance(v, str)),
        ("seeds", "whole numbers", lambda v: v and all(type(x) is int for x in v)),
        ("points", "whole numbers", lambda v: v and all(type(x) is int for x in v)),
        (
            "validation_loss",
            "a loss for each setting and seed, or nothing",
            lambda v: (
                v == () or (len(v) == len(settings) and _is_matrix(v, len(v[0]), _loss) and v[0])
            ),
        ),
        (
            "scores",
            "a loss, and other numbers, for each seed and point",
            lambda v: (
                _is_matrix(v["loss"], len(points), _loss)
                and all(
                    len(rows) == len(seeds) and _is_matrix(rows, len(points), _score)
                    for rows in v.values()
                )
            ),
        ),
        (
            "clip_fraction",
            "a share for each seed, or null",
            lambda v: v is None or _is_matrix([v], len(seeds), _share),
        ),
        ("seconds", "a number that is not negative", lambda v: _number(v) and v >= 0),
    ]


def _is_matrix(rows: Any, width: int, holds: Callable[[Any], bool]) -> bool:
    return all(
        isinstance(row, tuple) and len(row) == width and all(map(holds, row)) for row in rows
    )


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _setting(value: Any) -> bool:
    rate, threshold = value
    return _number(rate) and rate > 0 and (threshold is None or _number(threshold))


def _loss(value: Any) -> bool:
    return type(value) in (int, float) and not math.isnan(value)


def _score(value: Any) -> bool:
    return type(value) in (int, float)


def _share(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _refuse_constant(word: str) -> None:
    raise ValueError(f"is not JSON: {word}")


def _finite_or_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite_or_null(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_or_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _to_tuples(name: str, value: Any) -> Any:
    """Convert lists to tuples, and null to what it stands for: an infinite loss, a score of NaN."""
    if isinstance(value, list):
        return tuple(_to_tuples(name, item) for item in value)
    if value is None and name in ("loss", "validation_loss"):
        return math.inf
    # The fields of a result, whose null means what it says.
    fields = ("plain", "argument", "settings", "clip_fraction")
    return math.nan if value is None and name not in fields else value
