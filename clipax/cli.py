"""The command `clipax`: every bad input ends with one line on stderr and exit status 2."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

from clipax._interruption import watch

__all__ = ["main"]

_EXTRA = ("flax", "matplotlib", "rich", "scipy", "sklearn", "typer")
_BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
      arguments: words after the program's name; None for those of the process, which then ends at
        once on Ctrl-C (status 130) and SIGTERM (143).

    Returns:
      The exit status: 0, 2 for bad input, 130 after an interruption.
    """
    if arguments is None:
        watch()
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        return _complain(
            f'{", ".join(missing)} not found; the command needs: pip install "clipax[lab]"'
        )
    from clipax.lab._app import app
    from clipax.lab._errors import InputError

    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return app(words, prog_name="clipax", standalone_mode=False) or 0
    except InputError as error:
        return _complain(str(error))
    except Exception as error:
        # Errors of usage, whose class is click's or typer's own, by version.
        if not hasattr(error, "format_message"):
            raise
        return _complain(error.format_message())


def _complain(message: str) -> int:
    print(f"clipax: {' '.join(message.split())}", file=sys.stderr)
    return _BAD_INPUT
