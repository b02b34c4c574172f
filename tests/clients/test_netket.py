"""NetKet: the ground state of a spin chain; complex parameters, in double precision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import flax.serialization
import jax
import pytest

from tests.clients.suite import Loop, Optimizer, Suite


@pytest.fixture(scope="module", autouse=True)
def netket() -> Iterator[Any]:
    """Import NetKet, which switches to double precision and sets a mesh, for this module only."""
    precision, mesh = jax.config.read("jax_enable_x64"), jax.sharding.get_mesh()
    import netket as nk

    yield nk
    jax.config.update("jax_enable_x64", precision)
    jax.sharding.set_mesh(mesh)


def make(optimizer: Optimizer) -> Loop:
    """`netket.driver.VMC`, which holds the optimizer and its state."""
    import netket as nk

    hilbert = nk.hilbert.Spin(0.5, 6)
    chain = nk.graph.Chain(6)
    energy = nk.operator.IsingJax(hilbert, chain, h=1.0)

    def begin() -> Any:
        state = nk.vqs.FullSumState(hilbert, nk.models.RBM(alpha=1, param_dtype=complex), seed=0)
        return nk.driver.VMC(energy, optimizer, variational_state=state)

    def advance(driver: Any, index: int) -> Any:
        value = driver.state.expect(energy).mean.real
        driver.run(1, show_progress=False)
        return driver, value

    return Loop(
        begin,
        advance,
        lambda driver: driver.state.parameters,
        lambda driver: driver._optimizer_state,
        store,
        restore,
    )


def store(driver: Any, folder: Path) -> None:
    """Write the variational state and the driver by Flax's serialization, as NetKet does."""
    (folder / "state.mpack").write_bytes(flax.serialization.to_bytes(driver.state))
    (folder / "driver.mpack").write_bytes(flax.serialization.to_bytes(driver._optimizer_state))


def restore(folder: Path, driver: Any) -> Any:
    """Read both into a new driver."""
    state = flax.serialization.from_bytes(driver.state, (folder / "state.mpack").read_bytes())
    driver.state.parameters = state.parameters
    driver._optimizer_state = flax.serialization.from_bytes(
        driver._optimizer_state, (folder / "driver.mpack").read_bytes()
    )
    return driver


class TestNetket(Suite):
    make = staticmethod(make)
    tolerance: ClassVar[float] = 1e-10
    max_norm: ClassVar[float] = 0.1

    def test_parameters_are_complex(self) -> None:
        params = self.whole("clip").params[-1]
        assert all(leaf.dtype == complex for leaf in jax.tree.leaves(params))
