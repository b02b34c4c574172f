"""Settings that must hold before JAX makes its first array, and fixtures that all tests share."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Generator, Iterator
from contextlib import nullcontext

import jax
import pytest

from clipax.measure import assume_devices
from tests.double import enable_x64
from tests.one_context import share_context
from tests.quick_code import compiled_quickly, quick_code

__all__ = ["quick_code"]

# Nine tenths of the tests' time is XLA's, and its newer emitters of fusions take twice the time of
# the older ones, which make the same results; the newest JAX has no older ones. Programs that are
# counted are compiled as they are for users (`tests/counts/programs.py`), and so is the whole
# contract on the newest JAX. The compiler for TPUs (`tests/programs`) ends a process that has
# options of the CPU's.
_AS_FOR_USERS = {"CLIPAX_DEFAULT_CODEGEN", "CLIPAX_PROGRAMS"}
if jax.__version_info__ < (0, 11) and not _AS_FOR_USERS & os.environ.keys():
    os.environ["XLA_FLAGS"] = " ".join(
        [
            os.environ.get("XLA_FLAGS", ""),
            "--xla_cpu_use_fusion_emitters=false",
            "--xla_cpu_parallel_codegen_split_count=1",
        ]
    )
    share_context()

# Sharding is tested on virtual devices; an accelerator would change roundings and tolerances.
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)

# Tracing makes many objects, few of them garbage: looking for it at every turn takes a tenth of the
# time.
gc.set_threshold(100_000, 50, 100)


class _OwnWarnings:
    """Turns warnings that a line of clipax causes into errors, on whatever versions.

    Those by which a dependency announces a change (of deprecation, `FutureWarning`) are shown: they
    are not errors but where pytest is told so (`-W error`), as on the pinned versions.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        for category in (UserWarning, RuntimeWarning):
            # Behind all other filters: what a test's own mark says comes first.
            warnings.filterwarnings("error", "", category, r"clipax(\.|\Z)", append=True)


class _QuickDoctests:
    """Compiles the examples of docstrings quickly, as `quick_code` does the tests."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        with compiled_quickly() if isinstance(item, pytest.DoctestItem) else nullcontext():
            return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Register what must hold for doctests, too, which do not see this file's fixtures."""
    config.pluginmanager.register(_OwnWarnings())
    config.pluginmanager.register(_QuickDoctests())


@pytest.fixture
def x64() -> Iterator[None]:
    """Switch to double precision for one test."""
    with enable_x64(True):
        yield


@pytest.fixture(autouse=True)
def one_device() -> Iterator[None]:
    """Make programs for one device, as most users' are.

    Where sharding is tested a module or folder has a fixture of this name that does nothing.
    """
    with assume_devices(1):
        yield
