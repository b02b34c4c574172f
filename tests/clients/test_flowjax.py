"""FlowJAX: a normalising flow, by its step and by `fit_to_data`."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from flowjax.distributions import Normal, Transformed
from flowjax.flows import masked_autoregressive_flow
from flowjax.train import fit_to_data, step
from flowjax.train.losses import MaximumLikelihoodLoss

from tests.clients import test_equinox
from tests.clients.suite import Loop, Optimizer, Suite, assert_near, optimizers

RANDOM = np.random.default_rng(0)
DATA = (RANDOM.standard_normal((64, 2)) * [0.3, 2.0] + [1.0, -1.0]).astype(np.float32)


def flow() -> Transformed:
    """A small masked autoregressive flow."""
    return masked_autoregressive_flow(
        jax.random.key(0),
        base_dist=Normal(jnp.zeros(2)),
        flow_layers=2,
        nn_width=8,
        nn_depth=1,
    )


def make(optimizer: Optimizer) -> Loop:
    """FlowJAX's own step, on the trainable part of the flow."""

    def begin() -> Any:
        params, _ = parts()
        return params, optimizer.init(params)

    def parts() -> Any:
        return eqx.partition(
            flow(),
            eqx.is_inexact_array,
            is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable),
        )

    static, loss = parts()[1], MaximumLikelihoodLoss()

    def advance(kept: Any, index: int) -> Any:
        params, state, value = step(
            kept[0], static, DATA, optimizer=optimizer, opt_state=kept[1], loss_fn=loss
        )
        return (params, state), value

    return Loop(
        begin,
        advance,
        lambda kept: kept[0],
        lambda kept: kept[1],
        test_equinox.store,
        test_equinox.restore,
    )


class TestFlowjax(Suite):
    make = staticmethod(make)
    max_norm: ClassVar[float] = 0.2


def test_fit_to_data() -> None:
    fitted = {}
    for name in ("clip", "optax"):
        optimizer = optimizers(0.05, 0.2)[name]
        fitted[name], losses = fit_to_data(
            jax.random.key(1),
            flow(),
            DATA,
            optimizer=optimizer,
            max_epochs=4,
            batch_size=16,
            show_progress=False,
        )
        assert losses["train"][-1] < losses["train"][0]
    arrays = [eqx.filter(fitted[name], eqx.is_array) for name in ("clip", "optax")]
    assert_near(*arrays, tolerance=2e-5)
