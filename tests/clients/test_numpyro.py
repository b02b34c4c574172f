"""NumPyro: variational inference (SVI) through `optax_to_numpyro`."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.optim import optax_to_numpyro

import clipax
from tests.clients.data import regression
from tests.clients.suite import Loop, Optimizer, Suite, optimizers

INPUTS, TARGETS = regression()


def model(inputs: jax.Array, targets: jax.Array) -> None:
    """A Bayesian linear regression."""
    weights = numpyro.sample("weights", dist.Normal(jnp.zeros(inputs.shape[1]), 1.0).to_event(1))
    bias = numpyro.sample("bias", dist.Normal(0.0, 1.0))
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    with numpyro.plate("examples", len(targets)):
        numpyro.sample("targets", dist.Normal(inputs @ weights + bias, scale), obs=targets)


def make(optimizer: Optimizer) -> Loop:
    """`SVI.update` in a loop, as with NumPyro's own optimizers."""
    svi = SVI(model, AutoNormal(model), optax_to_numpyro(optimizer), Trace_ELBO(8))
    update = jax.jit(svi.update)
    return Loop(
        lambda: svi.init(jax.random.key(0), INPUTS, TARGETS),
        lambda kept, _: update(kept, INPUTS, TARGETS),
        svi.get_params,
        lambda kept: kept.optim_state[1][1],
        store,
        restore,
    )


def store(kept: Any, folder: Path) -> None:
    """Pickle the state, and its key as raw bits."""
    raw = kept._replace(rng_key=jax.random.key_data(kept.rng_key))
    (folder / "kept.pickle").write_bytes(pickle.dumps(jax.device_get(raw)))


def restore(folder: Path, like: Any) -> Any:
    """Read it back."""
    kept = pickle.loads((folder / "kept.pickle").read_bytes())
    return kept._replace(rng_key=jax.random.wrap_key_data(kept.rng_key))


class TestNumpyro(Suite):
    make = staticmethod(make)
    max_norm: ClassVar[float] = 20.0


def test_run_with_a_guard() -> None:
    """`SVI.run` makes all steps in one program."""
    optimizer = optax_to_numpyro(optimizers(0.05, 20.0)["skip"])
    svi = SVI(model, AutoNormal(model), optimizer, Trace_ELBO(8))
    result = svi.run(jax.random.key(0), 50, INPUTS, TARGETS, progress_bar=False)
    assert jnp.all(jnp.isfinite(result.losses))
    assert result.losses[-1] < result.losses[0]
    assert int(clipax.metrics(result.state.optim_state)["skipped_count"]) == 1
