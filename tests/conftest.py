"""Settings that must hold before JAX makes its first array, and fixtures that all tests share."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import jax
import pytest

from clipax.measure import assume_devices
from tests.quick_code import quick_code

__all__ = ["quick_code"]

# The releases on which every warning is an error; on newer ones only those that clipax raises are.
PINNED = "0.10."

# Nine tenths of the tests' time is XLA's, and its newer emitters of fusions take twice the time of
# the older ones, which make the same results. Programs that are counted are compiled as they are
# for users (`tests/counts/programs.py`), and so is the whole contract on the newest JAX. The
# compiler for TPUs (`tests/programs`) ends a process that has options of the CPU's.
_AS_FOR_USERS = {"CLIPAX_DEFAULT_CODEGEN", "CLIPAX_PROGRAMS"}
if jax.__version__.startswith(PINNED) and not _AS_FOR_USERS & os.environ.keys():
    os.environ["XLA_FLAGS"] = " ".join(
        [
            os.environ.get("XLA_FLAGS", ""),
            "--xla_cpu_use_fusion_emitters=false",
            "--xla_cpu_parallel_codegen_split_count=1",
        ]
    )

# Sharding is tested on virtual devices; an accelerator would change roundings and tolerances.
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)

# Tracing makes many objects, few of them garbage: looking for it at every turn takes a tenth of the
# time.
gc.set_threshold(100_000, 50, 100)


def pytest_configure(config: pytest.Config) -> None:
    """Relax the filter of warnings where JAX is newer than the pinned release."""
    if not jax.__version__.startswith(PINNED):
        config.addinivalue_line("filterwarnings", "default")
        config.addinivalue_line("filterwarnings", "error:::clipax")


@pytest.fixture
def x64() -> Iterator[None]:
    """Switch to double precision for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True)
def one_device() -> Iterator[None]:
    """Make programs for one device, as most users' are.

    Where sharding is tested a module or folder has a fixture of this name that does nothing.
    """
    with assume_devices(1):
        yield
