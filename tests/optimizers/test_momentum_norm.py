"""Properties of all optimizers that measure the norm of their momentum."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax


@pytest.mark.parametrize(
    "optimizer",
    [clipax.momentum_clip_sgd(1.0, 0.1, decay=0.5), clipax.clip_normalized_momentum(0.1, 1.0)],
)
def test_telemetry_of_a_measured_momentum(optimizer):
    params = jnp.array([6.0, 8.0])
    update = jax.jit(optimizer.update)
    state = optimizer.init(params)
    for gradient in (params, params * jnp.nan, params):
        _, state = update(gradient, state, params)
    inner = state[0]
    assert clipax.block_names(state) == ("averaged", "gradient")
    # As a checkpoint gives it back, without the keys of what remembers nothing.
    bare = {
        name: {"telemetry": one.telemetry._asdict() | {"labels": None}}
        for name, one in inner._asdict().items()
    }
    assert clipax.block_names(bare) == ("averaged", "gradient")
    found = clipax.metrics(state)
    assert found["grad_norm"] == pytest.approx(10)
    assert found["clip_fraction"] == 1
    np.testing.assert_array_equal([one.telemetry.nonfinite_count for one in inner], [1, 1])
    np.testing.assert_array_equal(clipax.metrics(state, top=None)["is_finite/averaged"], True)
