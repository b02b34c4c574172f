"""Keeps results: one line of JSON for each finished method, or in memory alone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipax.lab._compare.files import make_folder_error, write_whole
from clipax.lab._compare.lock import FolderLock
from clipax.lab._compare.norms import Norms
from clipax.lab._compare.records import read_line
from clipax.lab._compare.results import MethodResult
from clipax.lab._errors import InputError

__all__ = ["MemoryStore", "ResultStore"]

# The first bytes of the lines that are written here.
_SETTINGS, _RESULTS = b'{"settings": ', (b'{"result": ', b'{"norms": ')


class MemoryStore:
    """Results that are kept for as long as the program runs.

    Attributes:
      norms: what is known of the gradients' norms without a clip; None before it is measured.
      results: the results by method.
    """

    def __init__(self) -> None:
        self.norms: Norms | None = None
        self.results: dict[str, MethodResult] = {}

    def hold(self) -> contextlib.AbstractContextManager[str | None]:
        """Hold the store for a `with` block; here there is nothing to hold."""
        return contextlib.nullcontext()

    def set_norms(self, norms: Norms) -> None:
        """Keep what is known of the norms."""
        self.norms = norms

    def add(self, result: MethodResult) -> None:
        """Keep the result of a finished method."""
        self.results[result.method] = result


class ResultStore(MemoryStore):
    """The folder that results are kept in, `results.jsonl`.

    Looking into it changes nothing; what is written is read anew before, under a lock, so that two
    processes neither mix their settings nor lose each other's results.

    Args:
      folder: where to keep it; made if need be.
      settings: the settings as JSON values.

    Attributes:
      path: the file.
      norms: what is known of the gradients' norms without a clip; None before it is measured.
      results: the results in it, by method.
      lock: the folder's lock.

    Raises:
      InputError: if the folder cannot be used, or holds results of other settings or something
        else under that name.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        super().__init__()
        self.path = folder / "results.jsonl"
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

    def set_norms(self, norms: Norms) -> None:
        """Save what is known of the norms at once; the folder must be held.

        Args:
          norms: the norms.

        Raises:
          InputError: if they cannot be written.
        """
        with self._tell_failures():
            self._load()
            self.norms = norms
            self._save()

    @contextlib.contextmanager
    def _tell_failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise make_folder_error(self.path.parent, error) from None

    def _save(self) -> None:
        lines = [json.dumps({"settings": self._settings})]
        if self.norms is not None:
            lines.append(self.norms.to_json())
        lines += [result.to_json() for result in self.results.values()]
        write_whole(self.path, "".join(f"{line}\n" for line in lines).encode())

    def _load(self) -> None:
        lines = (self.path.read_bytes() if self.path.exists() else b"").split(b"\n")
        last = lines.pop()
        # A last line without its end was cut off while it was written: that method is trained
        # again. One that is whole lost its end in an editor.
        begun = (_SETTINGS, *_RESULTS) if lines else (_SETTINGS,)
        if last and not any(_is_cut_off(last, beginning) for beginning in begun):
            lines.append(last)
        if not lines:
            return
        stored = self._read_settings(lines[0])
        norms: Norms | None = None
        results: dict[str, MethodResult] = {}
        for number, line in enumerate(lines[1:], start=2):
            if not line.strip():
                continue
            try:
                record = read_line(line)
                if isinstance(record, dict) and "norms" in record:
                    norms = Norms.from_record(record)
                    continue
                result = MethodResult.from_record(record)
                if results.setdefault(result.method, result) != result:
                    raise ValueError(f"has other results of {result.method} than a line before")
            except ValueError as error:
                raise InputError(
                    f"{self.path} is damaged: line {number} {error}; remove this line to train its "
                    f"method again, or choose another --out."
                ) from None
        differences = _describe_differences(stored, self._settings)
        if (results or norms) and differences:
            raise InputError(
                f"{self.path} holds results of other settings ({differences}); choose another "
                f"--out or remove it."
            )
        self.norms, self.results = norms, results

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
        "the task's data, model or loss has changed"
        if name == "task_fingerprint"
        else f"{name}: {_show(stored.get(name))} there, {_show(current.get(name))} now"
        for name in names
        if stored.get(name) != current.get(name)
    )


def _show(value: Any) -> str:
    return "each method's own" if value is None else str(value)[:80]
