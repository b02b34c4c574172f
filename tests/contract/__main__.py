"""Says whether a method is complete: `python -m tests.contract NAME [options of pytest]`.

Runs all tests that say something of the method, wherever they are: those with its name (and with
that of its twin) among their parameters, and those of the lists, tables and pages in which it must
stand. `pytest -k NAME` leaves out the second kind, and would pass without an oracle.
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from pathlib import Path

import pytest

from clipax.catalogue import ENTRIES
from tests.contract.cases import TWINS

TESTS = Path(__file__).parents[1]
# Where tests without parameters compare the catalogue with what follows from it.
OF_ALL = (
    "contract/test_complete.py",
    "contract/test_documentation.py",
    "contract/test_repository.py",
    "benchmarks/test_faults.py",
    "benchmarks/test_programs.py",
    "docs/test_pages.py",
    "test_catalogue.py",
)


class Selection:
    """A plug-in of pytest that keeps the tests of one method."""

    def __init__(self, name: str) -> None:
        named, _ = TWINS.get(name, (name, ""))
        words = "|".join(map(re.escape, {name, named}))
        self.pattern = re.compile(rf"(?<![\w.])(?:{words})(?![\w.])")
        self.module = Path(inspect.getfile(ENTRIES[name].factory))
        self.files = {self.module, *(TESTS / file for file in OF_ALL)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep what bears its name, and what is said of all."""
        items[:] = [item for item in items if self._says_something(item)]

    def _says_something(self, item: pytest.Item) -> bool:
        if hasattr(item, "callspec"):
            of_all_pages = "tables_are_the_catalogue" in item.name
            return of_all_pages or bool(self.pattern.search(item.callspec.id))
        return item.path in self.files or "catalogue" in item.name


def main(arguments: list[str]) -> int:
    """Run them, and return the exit status."""
    if not arguments or arguments[0] not in ENTRIES:
        name = arguments[0] if arguments else ""
        close = ", ".join(difflib.get_close_matches(name, ENTRIES)) or "see `clipax.catalogue`"
        print(f"NAME must be an entry of the catalogue, got {name!r} ({close}).", file=sys.stderr)
        return 2
    name, *options = arguments
    selection = Selection(name)
    # In one process, as workers would know nothing of the selection.
    where = ["-q", "-n", "0", "-m", "", str(TESTS), str(selection.module)]
    status = pytest.main([*where, *options], plugins=[selection])
    print(f"{name} is {'complete' if status == 0 else 'not complete'}")
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
