"""The one exception that the command line turns into a line on stderr and exit status 2."""

__all__ = ["InputError"]


class InputError(ValueError):
    """What the user asked for cannot be done; the message is one clear line that says why."""
