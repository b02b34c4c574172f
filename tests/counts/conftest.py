"""What is counted are XLA's programs; no machine code of theirs is looked at."""

from tests.quick_code import quick_code

__all__ = ["quick_code"]
