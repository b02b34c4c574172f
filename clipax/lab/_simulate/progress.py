"""A bar that shows how far a simulation is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

__all__ = ["show_bar"]


@contextmanager
def show_bar(enabled: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar, if enabled and stderr is a terminal.

    Args:
      enabled: Whether to show it at all.

    Yields:
      A function to call with a name, the amount done and the total.
    """
    console = Console(stderr=True)
    tasks = {}
    with Progress(
        console=console, transient=True, disable=not (enabled and console.is_terminal)
    ) as progress:

        def advance(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done)

        yield advance
