"""A folder of results, a JSON file and a picture a paper."""

from __future__ import annotations

import json
import traceback
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.harness.records import dump
from benchmarks.papers.claims import Claim
from benchmarks.papers.figure import save
from benchmarks.papers.paper import Result

__all__ = ["read", "write"]


def write(result: Result, folder: Path) -> Result:
    """Writes a paper's figures to `NAME.json` and its panels to `NAME.png`.

    Args:
      result: What was measured; without panels there is no picture, and an old one is removed.
      folder: Where to; it must exist.

    Returns:
      The result, with a failure more if it cannot be drawn: the numbers are kept even so.

    Raises:
      OSError: If the JSON file cannot be written.
    """
    picture = folder / f"{result.name}.png"
    picture.unlink(missing_ok=True)
    if result.panels:
        try:
            save(f"{result.name}: {result.title}", result.panels, picture)
        except Exception as error:  # whatever a panel does, it is reported
            traceback.print_exc()
            failures = [*result.failures, f"{picture.name}: {error!r}"]
            result = replace(result, failures=failures)
    content = asdict(result.without_panels()) | {"passes": result.passes}
    for claim in content["claims"]:
        if claim["interval"] is None:
            del claim["interval"]
    for left_out in ("name", "panels"):
        del content[left_out]
    (folder / f"{result.name}.json").write_text(dump(content))
    return result


def read(folder: Path, order: Sequence[str]) -> list[Result]:
    """Reads every paper's JSON file of a folder.

    Args:
      folder: Where `write` wrote.
      order: Names in the order wanted; others follow by the alphabet.

    Returns:
      The results, without panels.

    Raises:
      ValueError: If a file is not one of `write`'s, with its path.
    """
    places = {name: place for place, name in enumerate(order)}
    paths = sorted(folder.glob("*.json"), key=lambda p: (places.get(p.stem, len(places)), p.stem))
    return [_read(path) for path in paths]


def _read(path: Path) -> Result:
    try:
        content = json.loads(path.read_text())
        content.pop("passes")
        claims = [Claim(**fields) for fields in content.pop("claims")]
        return Result(name=path.stem, claims=claims, **content)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a paper's result: {error}") from error
