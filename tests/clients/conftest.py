"""Collects these tests where they are asked for: `pytest tests/clients`.

They need the frameworks, in an environment of its own (the extra `clients`). Asked for where one is
missing they fail; an ordinary `pytest` leaves them out. A table of the clients ends the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from tests.clients import table

HERE = Path(__file__).parent


def asked(config: pytest.Config) -> bool:
    """Tell whether this folder, or something in it, is among the arguments of the command."""
    given = [Path(one.partition("::")[0]).resolve() for one in config.args]
    return any(one == HERE or HERE in one.parents for one in given)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out this folder where nobody asked for it."""
    inside = HERE in collection_path.parents and collection_path.suffix == ".py"
    return True if inside and not asked(config) else None


def pytest_configure(config: pytest.Config) -> None:
    """Leave the number of devices as users have it."""
    if asked(config):
        jax.config.update("jax_num_cpu_devices", 1)


@pytest.fixture(scope="module", autouse=True)
def quick_code() -> Iterator[None]:
    """Leave out most optimisations on every JAX: a loop of a few steps is compiled, not run."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(autouse=True)
def one_device() -> None:
    """Leave the number of devices as users have it."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of the clients."""
    stats = terminalreporter.stats
    reports = [
        report
        for kind in ("passed", "failed", "error", "skipped")
        for report in stats.get(kind, [])
        if isinstance(report, pytest.TestReport)
    ]
    found = table.rows(table.verdicts(reports))
    if found:
        terminalreporter.section("clients")
        terminalreporter.write_line(table.markdown(found))
