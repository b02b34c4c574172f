"""Runs all clients and writes their table into docs/clients.md: `python -m tests.clients`."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from docs.write_tables import ROOT, replace
from tests.clients import table

PAGE = ROOT / "docs" / "clients.md"


class Reports:
    """A plug-in of pytest that keeps all reports."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep one."""
        self.all.append(report)


def main(options: list[str]) -> int:
    """Run them; the page is written where nothing failed."""
    reports = Reports()
    status = int(pytest.main(["-q", str(Path(__file__).parent), *options], plugins=[reports]))
    if status == 0:
        rows = table.rows(table.verdicts(reports.all))
        told = f"With JAX {version('jax')} and optax {version('optax')}:\n\n{table.markdown(rows)}"
        PAGE.write_text(replace(PAGE.read_text(), "clients", told))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
