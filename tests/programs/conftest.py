"""Collects these tests where they are asked for: `CLIPAX_PROGRAMS=1 pytest tests/programs`.

They need the compilers for TPU and GPU, in an environment of its own (the extra `programs`). Asked
for where these are missing they fail; `.ci/run` asks.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.harness import targets

ASKED = os.environ.get("CLIPAX_PROGRAMS") == "1"
collect_ignore = [] if ASKED else [one.name for one in Path(__file__).parent.glob("test_*.py")]

if ASKED:
    for target in targets.PACKAGES:
        targets.prepare(target)


@pytest.fixture(autouse=True)
def one_device() -> None:
    """Leave the number of devices to the harness, which knows what it compiles for."""
    return
