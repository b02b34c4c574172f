"""Programs that take longer to compile than to run, compiled in less time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import pytest

__all__ = ["compiled_quickly", "quick_code"]


@contextmanager
def compiled_quickly() -> Iterator[None]:
    """Leave out LLVM's optimisations, not XLA's: the programs are the same, their code slower.

    Not for tests of rounding and of bits, whose subject is the code that users get, and not for
    long runs. Nothing changes where `tests/conftest.py` keeps to users' settings.
    """
    cheap = "xla_cpu_use_fusion_emitters=false" in os.environ.get("XLA_FLAGS", "")
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", cheap)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module", autouse=True)
def quick_code(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compile all tests quickly, but those of modules with `OPTIMISED`."""
    if getattr(request.module, "OPTIMISED", False):
        yield
    else:
        with compiled_quickly():
            yield
