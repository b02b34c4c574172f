"""A bar that shows how far a simulation is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

__all__ = ["bar_of"]


@contextmanager
def bar_of(wanted: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on the terminal, if wanted and there is one.

    Args:
      wanted: Whether to show it.

    Yields:
      What to call with a name, how much of it is done and how much there is to do.
    """
    console = Console(stderr=True)
    tasks = {}
    with Progress(
        console=console, transient=True, disable=not (wanted and console.is_terminal)
    ) as progress:

        def advance(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done)

        yield advance
