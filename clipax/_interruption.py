"""Ends the command `clipax` at once on Ctrl-C and on SIGTERM, with the status that shells expect.

Python's own way is an exception at whatever instruction comes next. Inside the initialisation of
jaxlib the process dies of it (SIGSEGV), a callback of the garbage collector swallows it, so that
the command runs on, and after it the threads of XLA can crash the exit of the interpreter. A
handler that ends the process raises nothing anywhere. Only the command does it: a program that
imports the package keeps its own handlers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

__all__ = ["announce", "watch"]

_note = ""
_last: list[Callable[[], None]] = []


def _watch_command() -> None:
    """Watch where the package is imported for its command line."""
    started = sys.argv[0] if getattr(sys, "argv", None) else ""
    # `python -m clipax` imports the package before it sets the name of the program.
    named = "-m" in sys.orig_argv and sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1]
    if Path(started).name in ("clipax", "clipax.exe") or (started == "-m" and named == ["clipax"]):
        watch()


def watch() -> None:
    """End the process on Ctrl-C and SIGTERM; signals that somebody handles or ignores stay so."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _leave)


def announce(note: str, *last: Callable[[], None]) -> None:
    """Set what to say and to do last."""
    global _note
    _note = note
    _last[:] = last


def _leave(number: int, frame: FrameType | None) -> None:
    # A second signal must not come in between.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for act in (*_last, sys.stdout.flush):
        # Whatever was interrupted may hold what these need.
        with contextlib.suppress(Exception):
            act()
    word = "Interrupted" if number == signal.SIGINT else "Terminated"
    # A progress bar hides the cursor, and leaves its own line unfinished.
    tidy = "\x1b[?25h\n" if sys.stderr.isatty() else ""
    with contextlib.suppress(OSError):
        os.write(2, f"{tidy}{word}.{_note and ' '}{_note}\n".encode())
    os._exit(128 + number)


# On import, as the rest of the package takes seconds to import.
_watch_command()
