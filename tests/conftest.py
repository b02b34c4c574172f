"""Settings that must hold before JAX makes its first array, and fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest

# Sharding is tested on virtual devices; an accelerator would change roundings and tolerances.
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision for the time of one test."""
    with jax.enable_x64(True):
        yield
