"""Results of methods, and the file that keeps them: one line of JSON for each finished method."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clipax.lab._compare.files import make_folder_error, write_whole
from clipax.lab._compare.lock import FolderLock
from clipax.lab._compare.records import check_result, read_line, write_line
from clipax.lab._errors import InputError

__all__ = ["MethodResult", "ResultStore", "quantile"]

# The first bytes of the lines that are written here.
_SETTINGS, _RESULT = b'{"settings": ', b'{"result": '

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
        return write_line({"result": dataclasses.asdict(self)})

    @classmethod
    def from_record(cls, record: Any) -> MethodResult:
        """Rebuild a result from the value of its line; raise ValueError with what is wrong."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**check_result(record, names))


class ResultStore:
    """The folder that results are kept in, `results.jsonl`.

    Looking into it changes nothing; what is written is read anew before, under a lock, so that two
    processes neither mix their settings nor lose each other's results.

    Args:
      folder: where to keep it; made if need be.
      settings: the settings as JSON values.

    Attributes:
      path: the file.
      results: the results in it, by method.
      lock: the folder's lock.

    Raises:
      InputError: if the folder cannot be used, or holds results of other settings or something
        else under that name.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        self.path = folder / "results.jsonl"
        self.results: dict[str, MethodResult] = {}
        self.lock = FolderLock(folder)
        self._settings = settings
        with self._tell_failures():
            folder.mkdir(parents=True, exist_ok=True)
            self._load()

    @contextlib.contextmanager
    def hold(self) -> Iterator[str | None]:
        """Hold the folder for a `with` block, and write down its settings.

        Yields:
          Who left the lock behind, if a process did, else None.

        Raises:
          InputError: another process holds the folder, or it cannot be written to.
        """
        with self._tell_failures():
            left = self.lock.acquire()
        try:
            with self._tell_failures():
                self._load()
                self._save()
            yield left
        finally:
            self.lock.release()

    def add(self, result: MethodResult) -> None:
        """Save a finished method at once.

        Args:
          result: the method's result.

        Raises:
          InputError: if it cannot be written, or another process holds the folder.
        """
        if not self.lock.held:
            with self.hold():
                self.add(result)
            return
        with self._tell_failures():
            self._load()
            self.results[result.method] = result
            self._save()

    @contextlib.contextmanager
    def _tell_failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise make_folder_error(self.path.parent, error) from None

    def _save(self) -> None:
        lines = [json.dumps({"settings": self._settings})]
        lines += [result.to_json() for result in self.results.values()]
        write_whole(self.path, "".join(f"{line}\n" for line in lines).encode())

    def _load(self) -> None:
        lines = (self.path.read_bytes() if self.path.exists() else b"").split(b"\n")
        last = lines.pop()
        # A last line without its end was cut off while it was written: that method is trained
        # again. One that is whole lost its end in an editor.
        if last and not (lines and _is_cut_off(last, _RESULT)) and not _is_cut_off(last, _SETTINGS):
            lines.append(last)
        if not lines:
            return
        stored = self._read_settings(lines[0])
        results: dict[str, MethodResult] = {}
        for number, line in enumerate(lines[1:], start=2):
            if not line.strip():
                continue
            try:
                result = MethodResult.from_record(read_line(line))
                if results.setdefault(result.method, result) != result:
                    raise ValueError(f"has other results of {result.method} than a line before")
            except ValueError as error:
                raise InputError(
                    f"{self.path} is damaged: line {number} {error}; remove this line to train its "
                    f"method again, or choose another --out."
                ) from None
        differences = _describe_differences(stored, self._settings)
        if results and differences:
            raise InputError(
                f"{self.path} holds results of other settings ({differences}); choose another "
                f"--out or remove it."
            )
        self.results = results

    def _read_settings(self, line: bytes) -> dict[str, Any]:
        try:
            stored = read_line(line)["settings"]
            if not isinstance(stored, dict):
                raise ValueError("has no settings")
        except (ValueError, TypeError, LookupError):
            raise InputError(
                f"{self.path} was not written by `clipax compare`, or is damaged: its first line "
                f"has no settings; choose another --out or remove it."
            ) from None
        return stored


def _is_cut_off(line: bytes, beginning: bytes) -> bool:
    """Whether a line of ours breaks off in the middle."""
    try:
        read_line(line)
    except ValueError:
        return line.startswith(beginning) or beginning.startswith(line)
    return False


def _describe_differences(stored: dict[str, Any], current: dict[str, Any]) -> str:
    names = [*stored, *(name for name in current if name not in stored)]
    return ", ".join(
        f"{name}: {_show(stored.get(name))} there, {_show(current.get(name))} now"
        for name in names
        if stored.get(name) != current.get(name)
    )


def _show(value: Any) -> str:
    return "each method's own" if value is None else str(value)[:80]
