"""Settings of the tests on several devices."""

import pytest


@pytest.fixture
def one_device() -> None:
    """Do nothing: these tests run on several devices."""
