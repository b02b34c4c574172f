"""Error feedback on shards: every memory as on one device, bad steps included."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from tests.mesh import every_method as every


@pytest.mark.parametrize("options", [{"memory": "buffer"}, {"b1": 0.75, "step": 0.5}], ids=str)
def test_in_shards_as_alone(options: dict[str, Any]) -> None:
    def make(axis_name: Any) -> Any:
        clip = clipax.clip_by_global_norm(1.0, axis_name=axis_name)
        return clipax.with_error_feedback(clip, axis_name=axis_name, **options)

    _, gradients = every.trees()
    bad = {**gradients[0], "bias": jnp.full_like(gradients[0]["bias"], jnp.nan)}
    sharded, alone = make(("data", "model")), make(None)
    state, single = sharded.init(gradients[0]), alone.init(gradients[0])
    specs = every.specs_of(state)
    step = jax.jit(
        jax.shard_map(
            lambda gradient, state: sharded.update(gradient, state),
            mesh=every.mesh(),
            in_specs=(every.SPECS, specs),
            out_specs=(every.SPECS, specs),
        )
    )
    for gradient in (*gradients, bad, *gradients):
        update, state = step(gradient, state)
        expected, single = alone.update(gradient, single)
        for path, leaf in update.items():
            np.testing.assert_allclose(leaf, expected[path], rtol=1e-5, atol=1e-6)
    assert state.skipped_count == single.skipped_count >= 1
