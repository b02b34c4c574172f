"""What a comparison found: the results, a table, a summary and a picture."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from clipax.lab._compare.norms import Norms
from clipax.lab._compare.report import make_table, make_title, write_document, write_remarks
from clipax.lab._compare.results import MethodResult
from clipax.lab._compare.settings import Settings
from clipax.lab._compare.verdict import write_verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Comparison"]

_WIDTH = 100


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """What a comparison found; printed, it is the table and the summary.

    Attributes:
      task: The task's name.
      settings: What all methods shared.
      norms: Norms of the gradients without a clip.
      results: The result of each method, the lowest median test loss first.
    """

    task: str
    settings: Settings
    norms: Norms
    results: tuple[MethodResult, ...]

    @property
    def title(self) -> str:
        """Task, noise and length, one line."""
        return make_title(self.task, self.settings)

    @property
    def summary(self) -> list[str]:
        """What the results say, in words: a sentence or two each, the last one what to do."""
        return write_verdict(self.results, self.norms, self.settings)

    def __getitem__(self, method: str) -> MethodResult:
        """Find the result of a method by its name."""
        for result in self.results:
            if result.method == method:
                return result
        known = ", ".join(result.method for result in self.results)
        raise KeyError(f"no method {method!r}; there are {known}")

    def __str__(self) -> str:
        # Plain text: of a notebook's own console nothing is wanted.
        text = io.StringIO()
        self.print(
            Console(
                file=text,
                width=_WIDTH,
                force_jupyter=False,
                force_terminal=False,
                color_system=None,
                highlight=False,
            )
        )
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    # What a notebook and the prompt show.
    __repr__ = __str__

    def print(self, console: Console) -> None:
        """Print the table and the summary.

        Args:
          console: A console of rich, whose width decides where lines break.
        """
        console.print(make_table(self.results, self.title, console.width))
        for note in (*write_remarks(self.results), *self.summary):
            console.print(note, markup=False)

    def to_markdown(self) -> str:
        """Write table, summary and settings as a Markdown document."""
        return write_document(self.results, self.title, self.task, self.settings, self.summary)

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw losses against steps, at the end and against the rate, and the norms.

        Args:
          path: The file to write, in a format of matplotlib's by its name. Default: none.

        Returns:
          The figure.

        Raises:
          OSError: The file cannot be written.
        """
        from clipax.lab._compare.plots import draw

        return draw(self.results, self.norms, self.title, None if path is None else Path(path))
