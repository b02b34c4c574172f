"""Reads the norms in the event files of TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipax.diagnostics._advice._names import find_norms
from clipax.lab._errors import InputError

__all__ = ["is_events", "read_events"]


def is_events(path: Path) -> bool:
    """Tell whether a path is an event file, or a folder that could hold some."""
    return path.is_dir() or "tfevents" in path.name


def read_events(path: Path) -> list[dict[str, Any]]:
    """Read the scalars that are called norms, a row for each step.

    Raises:
      InputError: TensorBoard is not installed, or there are no events or no norms.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError:
        raise InputError(
            f"{path} holds event files, which TensorBoard reads: pip install tensorboard"
        ) from None
    # Zero: all of them, not a sample.
    events = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    known = [*tags["scalars"], *tags["tensors"]]
    norms = [column.name for column in find_norms(known)]
    if not norms:
        names = ", ".join(known) or "none"
        raise InputError(
            f"{path} has no scalar of gradient norms (`grad_norm`, ...), got: {names}."
        )
    rows: dict[int, dict[str, Any]] = {}
    for tag in norms:
        if tag in tags["scalars"]:
            values = [(event.step, event.value) for event in events.Scalars(tag)]
        else:  # TensorFlow 2 writes scalars as tensors
            values = [
                (event.step, float(make_ndarray(event.tensor_proto)))
                for event in events.Tensors(tag)
            ]
        for step, value in values:
            rows.setdefault(step, {"step": step})[tag] = value
    return [rows[step] for step in sorted(rows)]
