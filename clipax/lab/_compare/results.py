"""Results of methods, and the file that keeps them: one line of JSON for each finished method."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipax.lab._errors import InputError

__all__ = ["MethodResult", "ResultStore", "quantile"]

Losses = tuple[tuple[float, ...], ...]


def quantile(values: Sequence[float], q: float) -> float:
    """Compute a quantile by linear interpolation; infinite values keep their rank.

    Args:
      values: numbers, some perhaps infinite.
      q: between 0 and 1.

    Returns:
      The quantile; infinite as soon as an infinite value takes part in it.
    """
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    share = position - below
    if share == 0:
        return ordered[below]
    low, high = ordered[below], ordered[below + 1]
    return high if math.isinf(high) else low + share * (high - low)


@dataclasses.dataclass(frozen=True)
class MethodResult:
    """The result of one method.

    Attributes:
      method: its name.
      learning_rates: the rates tried.
      validation_loss: last loss on the validation split, for each rate and selection seed;
        infinite where the run diverged, empty where there was one rate only.
      learning_rate: the rate chosen.
      seeds: the seeds of the results below; none of them took part in the choice.
      points: the steps at which the curves have points.
      loss: loss on the test split, for each seed and point; infinite once a run has diverged.
      accuracy: accuracy on the test split likewise; 0 once a run has diverged.
      clip_fraction: share of clipped steps for each seed, None for methods without telemetry.
      seconds: the time it took, compilation included.
    """

    method: str
    learning_rates: tuple[float, ...]
    validation_loss: Losses
    learning_rate: float
    seeds: tuple[int, ...]
    points: tuple[int, ...]
    loss: Losses
    accuracy: Losses
    clip_fraction: tuple[float, ...] | None
    seconds: float

    @property
    def final_loss(self) -> tuple[float, ...]:
        """Test loss after the last step, for each seed."""
        return tuple(curve[-1] for curve in self.loss)

    @property
    def final_accuracy(self) -> tuple[float, ...]:
        """Test accuracy after the last step, for each seed."""
        return tuple(curve[-1] for curve in self.accuracy)

    @property
    def diverged(self) -> float:
        """Share of seeds whose run diverged."""
        return sum(map(math.isinf, self.final_loss)) / len(self.seeds)

    @property
    def edge(self) -> str | None:
        """`"smallest"` or `"largest"` where the chosen rate is that of the rates tried."""
        if len(self.learning_rates) < 2:
            return None
        edges = {self.learning_rates[0]: "smallest", self.learning_rates[-1]: "largest"}
        return edges.get(self.learning_rate)

    def order(self) -> tuple[float, float, float]:
        """Compute a sort key: median test loss, then the share diverged, then the accuracy."""
        accuracy = quantile(self.final_accuracy, 0.5)
        return quantile(self.final_loss, 0.5), self.diverged, -accuracy

    def to_json(self) -> str:
        """Write one line of strict JSON, with null for infinite losses."""
        return json.dumps({"result": _finite_or_null(dataclasses.asdict(self))}, allow_nan=False)

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> MethodResult:
        """Rebuild a result from the fields of its line."""
        return cls(**{name: _infinite_where_null(name, value) for name, value in fields.items()})


def _finite_or_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite_or_null(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_or_null(item) for item in value]
    return None if isinstance(value, float) and math.isinf(value) else value


def _infinite_where_null(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_infinite_where_null(name, item) for item in value)
    return math.inf if value is None and name != "clip_fraction" else value


class ResultStore:
    """The folder that results are kept in: `results.jsonl`, its first line the settings.

    Args:
      folder: where to keep it; made if need be.
      settings: the settings as JSON values.

    Raises:
      InputError: if the folder cannot be written to, or holds results of other settings or
        something else under that name.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        self.path = folder / "results.jsonl"
        self.results: dict[str, MethodResult] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            kept = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise _make_folder_error(folder, error) from None
        if kept:
            self._load(kept, settings)
        # Written anew under another name and moved, so that a crash leaves the old or the new.
        lines = [json.dumps({"settings": settings})]
        lines += [result.to_json() for result in self.results.values()]
        draft = self.path.with_suffix(".jsonl.part")
        try:
            draft.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            draft.replace(self.path)
        except OSError as error:
            raise _make_folder_error(folder, error) from None

    def add(self, result: MethodResult) -> None:
        """Save a finished method at once.

        Args:
          result: the method's result.

        Raises:
          InputError: if it cannot be written.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(result.to_json() + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _make_folder_error(self.path.parent, error) from None
        self.results[result.method] = result

    def _load(self, kept: bytes, settings: dict[str, Any]) -> None:
        # A line without an end was cut off while it was written: that method is trained again.
        lines = kept.split(b"\n")[:-1]
        try:
            records = [json.loads(line) for line in lines]
            stored = records[0]["settings"] if records else settings
            results = [MethodResult.from_fields(record["result"]) for record in records[1:]]
            differences = _describe_differences(stored, settings)
        except (ValueError, TypeError, LookupError, AttributeError):
            raise InputError(
                f"{self.path} was not written by `clipax compare`, or is damaged; choose another "
                f"--out or remove it."
            ) from None
        if results and differences:
            raise InputError(
                f"{self.path} holds results of other settings ({differences}); choose another "
                f"--out or remove it."
            )
        self.results = {result.method: result for result in results}


def _describe_differences(stored: dict[str, Any], current: dict[str, Any]) -> str:
    names = [*stored, *(name for name in current if name not in stored)]
    return ", ".join(
        f"{name}: {_show(stored.get(name))} there, {_show(current.get(name))} now"
        for name in names
        if stored.get(name) != current.get(name)
    )


def _show(value: Any) -> str:
    return "each method's own" if value is None else str(value)


def _make_folder_error(folder: Path, error: OSError) -> InputError:
    return InputError(f"output folder {folder} cannot be used: {error.strerror or error}.")
