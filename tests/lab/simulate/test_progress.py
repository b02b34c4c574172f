"""The progress bar."""

from __future__ import annotations

import io
from functools import partial

from rich.console import Console

from clipax.lab._simulate import progress


def test_bar_is_for_terminals(monkeypatch):
    for terminal, wanted, shown in ((True, True, True), (True, False, False), (False, True, False)):
        text = io.StringIO()
        console = partial(Console, file=text, force_terminal=terminal, width=60)
        monkeypatch.setattr(progress, "Console", lambda stderr, made=console: made())
        with progress.show_bar(wanted) as bar:
            bar("method", 1, 2)
        assert ("method" in text.getvalue()) == shown
