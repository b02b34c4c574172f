"""The console that the commands print tables and progress to."""

from __future__ import annotations

from rich.console import Console

__all__ = ["make_console"]

# Tables that go to a file or a pipe are not folded.
_PIPE_WIDTH = 120


def make_console(*, stderr: bool = False) -> Console:
    """Make a console; one that is no terminal is wide."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console
