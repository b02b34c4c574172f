"""Settings that must hold before JAX makes its first array, and fixtures that all tests share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import jax
import pytest

# Sharding is tested on virtual devices; an accelerator would change roundings and tolerances.
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)

# The releases on which every warning is an error; on newer ones only those that clipax raises are.
PINNED = "0.10."


# Tracing makes many objects, few of them garbage: looking for it at every turn takes a tenth of the
# time.
gc.set_threshold(100_000, 50, 100)


def pytest_configure(config: pytest.Config) -> None:
    """Relaxes the filter of warnings where JAX is newer than what is pinned."""
    if not jax.__version__.startswith(PINNED):
        config.addinivalue_line("filterwarnings", "default")
        config.addinivalue_line("filterwarnings", "error:::clipax")


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision for the time of one test."""
    with jax.enable_x64(True):
        yield
