"""Most programs of these tests take longer to compile than to run."""

from tests.quick_code import quick_code

__all__ = ["quick_code"]
