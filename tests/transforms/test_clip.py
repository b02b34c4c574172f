"""Clips at one threshold: what rounding may do, and what schedules and compensations may not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from tests.thorough import thorough

OPTIMISED = True


@pytest.mark.parametrize(
    ("dtype", "leaves"),
    thorough(
        [(jnp.float32, 1), (jnp.float16, 150), (jnp.float32, 150), (jnp.bfloat16, 700)],
        but=[(jnp.float32, 1), (jnp.float32, 150)],
    ),
)
def test_norms_are_accurate_and_clipped_ones_within_the_bound_for_any_number_of_leaves(
    dtype, leaves
):
    rng = np.random.default_rng(leaves)
    # Values that all round up in the leaf's type would add up where sums run in that type.
    grads = [jnp.asarray(rng.uniform(0.5, 2, size=11), dtype) for _ in range(leaves)]
    clip = clipax.clip_by_global_norm(1.0)

    @jax.jit
    def both(grads):
        return clipax.global_norm(grads), clip.update(grads, clip.init(grads))

    norm, (updates, state) = both(grads)
    exact, clipped = (
        np.sqrt(sum(np.sum(np.asarray(leaf, np.float64) ** 2) for leaf in tree))
        for tree in (grads, updates)
    )
    assert abs(float(norm) - exact) <= 4e-7 * exact
    assert state.telemetry.grad_norm == norm
    eps = float(jnp.finfo(dtype).eps)
    assert 1 - 4 * eps <= clipped <= 1 + 4 * eps


def test_a_gradient_within_the_threshold_passes_bit_for_bit():
    grads = {"a": jnp.array([1e-3, -0.0, 2.5e-38]), "b": jnp.array([0.1], jnp.bfloat16)}
    clip = clipax.clip_by_global_norm(1.0)
    updates, state = jax.jit(clip.update)(grads, clip.init(grads))
    for name, leaf in grads.items():
        assert np.asarray(updates[name]).tobytes() == np.asarray(leaf).tobytes()
    assert state.telemetry.clip_factor == 1


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("response", ["sqrt", "rational", "tanh", "huber", "hard"])
def test_schedules_that_undershoot_let_next_to_nothing_pass(value, response):
    def schedule(count):
        return jnp.full((), value)

    if response == "hard":
        clip = clipax.clip_by_global_norm(schedule)
    else:
        clip = clipax.clip_by_smooth_norm(schedule, response=response)
    for grads in (jnp.zeros(2), jnp.ones(2)):
        update, state = clip.update(grads, clip.init(grads))
        np.testing.assert_allclose(update, [0, 0], atol=1e-30)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
