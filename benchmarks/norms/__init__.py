"""Norms of gradients along real training: public logs, and reference runs of our own.

`public.json` holds what other people published, copied from their repositories and rounded to four
digits; `own.json` is written by `python -m benchmarks noise`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FOLDER = Path(__file__).parent
PUBLIC, OWN = FOLDER / "public.json", FOLDER / "own.json"


class Stretch(NamedTuple):
    """Norms logged one after the other; `first` is the step of the first of them."""

    first: int
    norms: np.ndarray


class Log(NamedTuple):
    """What is known of a run.

    Attributes:
      name: Of the run.
      kind: Of training.
      about: What is known of the model and the optimizer, where it is from.
      every: The spacing of the logged steps.
      stretches: The norms, as far as they were copied.
    """

    name: str
    kind: str
    about: str
    every: int
    stretches: tuple[Stretch, ...]


def load(path: Path) -> list[Log]:
    """Reads the logs of a file."""
    return [_read(entry) for entry in json.loads(path.read_text())]


def _read(entry: dict[str, Any]) -> Log:
    stretches = tuple(
        Stretch(one["first"], np.array(one["norms"].split(), float)) for one in entry["stretches"]
    )
    about = entry["about"]
    if "repository" in entry:
        about += f" ({entry['repository']}, {entry['path']}, {entry['commit'][:7]})"
    return Log(entry["name"], entry["kind"], about, entry["every"], stretches)


def save(path: Path, logs: list[Log]) -> None:
    """Writes logs, rounded to four digits."""
    entries = [
        {
            **one._asdict(),
            "stretches": [
                {"first": part.first, "norms": " ".join(f"{norm:.4g}" for norm in part.norms)}
                for part in one.stretches
            ],
        }
        for one in logs
    ]
    path.write_text(json.dumps(entries, indent=1) + "\n")
