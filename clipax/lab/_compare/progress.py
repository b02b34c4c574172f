"""Shows the progress of a comparison, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from clipax.lab._compare.results import MethodResult
from clipax.lab._console import make_console

__all__ = ["Bar", "Silence"]


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Silence:
        return self

    def __exit__(self, *_: object) -> None:
        """End."""

    def tell(self, remark: str) -> None:
        """Take a remark, one line."""

    def begin(self, stretches: int, kept: Sequence[str]) -> None:
        """Take the number of stretches of steps ahead, and the methods finished already."""

    def begin_method(self, name: str) -> None:
        """Take the name of the method that begins."""

    def advance(self) -> None:
        """Count a stretch of steps that is done."""

    def end_method(self, result: MethodResult) -> None:
        """Take the result of a finished method, which is saved."""


class Bar(Silence):
    """Shows progress on stderr, so that stdout holds the table alone."""

    def __init__(self) -> None:
        self._progress = Progress(
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=make_console(stderr=True),
        )
        self._task = self._progress.add_task("")

    def __exit__(self, *_: object) -> None:
        if self._progress.live.is_started:
            self._progress.stop()

    def tell(self, remark: str) -> None:
        self._progress.console.print(remark, markup=False)

    def begin(self, stretches: int, kept: Sequence[str]) -> None:
        # The bar starts only now: bad input, which is checked first, ends with one line and no bar.
        if kept:
            self.tell(f"kept from the last run: {', '.join(kept)}")
        if stretches:
            self._progress.update(self._task, total=stretches)
            self._progress.start()

    def begin_method(self, name: str) -> None:
        self._progress.update(self._task, description=name)

    def advance(self) -> None:
        self._progress.advance(self._task)

    def end_method(self, result: MethodResult) -> None:
        self.tell(f"finished {result.method} ({result.seconds:.0f} s)")
