"""The one exception that the command line turns into a line on stderr and exit status 2."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Bad input of a user; the message is one line that says why."""
