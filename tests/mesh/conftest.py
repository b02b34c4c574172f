"""Settings of the tests on several devices."""

import pytest


@pytest.fixture
def one_device() -> None:
    """Nothing: here there are several."""
