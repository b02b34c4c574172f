"""Marks every test of this folder, so that `-m contract` selects the contract alone."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the marker; the hook sees the items of other folders too."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.contract)
