"""Long runs take longer than their compilation: compiled as for users, but where a test says so."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def quick_code() -> None:
    """Replace the fixture of all other tests."""
