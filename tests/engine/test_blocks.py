"""States that a rule may keep beside whole words."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from clipax import thresholds
from clipax._platforms import assume_platform
from tests.thorough import thorough


def _flagged() -> thresholds.Threshold:
    """Remember the last norm in five types."""

    def init(shape):
        zeros = jnp.zeros(shape)
        return {
            "last": zeros,
            "count": jnp.zeros(shape, jnp.int32),
            "flag": zeros > 0,
            "short": jnp.zeros(shape, jnp.int16),
            "wide": jnp.zeros(shape, jnp.uint32),
        }

    def update(norms, state, context):
        new = {
            "last": norms,
            "count": state["count"] + 1,
            "flag": ~state["flag"],
            "short": state["short"] + jnp.int16(1),
            "wide": state["wide"] + jnp.uint32(1),
        }
        return jnp.where(state["flag"], 1.0, 2.0) + state["count"], new

    return thresholds.Threshold(init, update)


@pytest.mark.parametrize("platform", thorough(["cpu", "gpu", "tpu", None], but=["cpu", "tpu"]))
@pytest.mark.parametrize("scope", ["global", "leaf"])
def test_flags_and_short_numbers_are_states_too(platform, scope) -> None:
    gradient = {"a": jnp.array([30.0, 40.0]), "b": jnp.array([5.0])}

    def steps():
        clip = clipax.scale_by_norm(clipax.norms.clip(_flagged()), scope=scope)
        state = clip.init(gradient)
        for _ in range(3):
            updates, state = jax.jit(clip.update)(gradient, state)
        return updates, clipax.metrics(state)["threshold"]

    if platform is None:
        updates, threshold = steps()
    else:
        with assume_platform(platform):
            updates, threshold = steps()
    assert threshold == 4  # 2 + 0, 1 + 1, 2 + 2
    size = np.linalg.norm(updates["a"]) if scope == "leaf" else clipax.global_norm(updates)
    np.testing.assert_allclose(size, 4, rtol=1e-6)
