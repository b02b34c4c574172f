"""Settings of the tests on several devices."""

import pytest

from tests.quick_code import quick_code

__all__ = ["one_device", "quick_code"]


@pytest.fixture
def one_device() -> None:
    """Nothing: here there are several."""
