"""The problems of `cases`, made once a module."""

from __future__ import annotations

import jax
import pytest

from clipax.lab import problems
from tests.lab.problems.cases import MAKE


@pytest.fixture(scope="module")
def made():
    with jax.enable_x64(True):
        wide = problems.wide_least_squares(1, rows=5, columns=20)
        return {name: make() for name, (make, _, _) in MAKE.items()} | {"wide": wide}
