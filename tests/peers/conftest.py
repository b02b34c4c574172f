"""Results are compared to the last digits with those of other libraries, in users' code."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def quick_code() -> None:
    """Replace the fixture of all other tests."""
