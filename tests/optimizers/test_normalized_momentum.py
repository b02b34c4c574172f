"""Normalised momentum, with a clip in front of it and without."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax import norms
from tests.optimizers.walks import walk


@pytest.mark.parametrize("before", [None, norms.clip(2.0)])
def test_normalised_steps_have_the_length_of_the_rate(x64, before):
    optimizer = (
        clipax.normalized_momentum(0.3)
        if before is None
        else clipax.clip_normalized_momentum(0.3, 2.0)
    )
    lengths = [float(optax.tree.norm(out)) for out in walk(optimizer)[0]]
    np.testing.assert_allclose(lengths, 0.3, rtol=1e-12)


def test_a_threshold_of_the_parameters_in_front_of_a_momentum():
    relative = clipax.thresholds.Threshold(
        lambda shape: (),
        lambda norms, state, context: (0.1 * context.param_norms, state),
        needs_params=True,
    )
    optimizer = clipax.clip_normalized_momentum(0.5, relative)
    params = jnp.array([3.0, 4.0])
    _, state = optimizer.update(10 * params, optimizer.init(params), params)
    np.testing.assert_allclose(optax.tree.get(state, "momentum"), 0.01 * params, rtol=1e-6)
    with pytest.raises(ValueError, match="`params` must be given"):
        optimizer.update(params, optimizer.init(params))
