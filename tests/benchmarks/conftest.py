"""Programs that run for a moment: no machine code of theirs is looked at."""

from tests.quick_code import quick_code

__all__ = ["quick_code"]
