"""Moments of gradients as the Adams of the collection keep them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from tests.optimizers.histories import adam_state, follow, ordinary

EACH = pytest.mark.parametrize(
    "optimizer", [make(0.1) for make in (clipax.stable_adamw, clipax.spam, clipax.stable_spam)]
)


@EACH
def test_entries_that_never_were_anything_do_not_move_and_do_no_harm(optimizer):
    gradients = ordinary(30)
    gradients[:20, 1] = 0
    updates, _ = follow(optimizer, gradients)
    np.testing.assert_array_equal(updates[:20, 1], 0)
    assert np.abs(updates[20:, 1]).min() > 1e-4
    assert np.isfinite(updates).all()


@EACH
def test_averages_are_kept_in_float32_or_better(optimizer):
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    memory = adam_state(optimizer.init(params))
    assert {leaf.dtype for leaf in jax.tree.leaves(memory)} == {jnp.dtype(jnp.float32)}


@EACH
def test_complex_entries_keep_their_phase(optimizer):
    gradients = ordinary(40) * np.complex64(0.6 + 0.8j)
    gradients[30] *= 1e4
    updates, _ = follow(optimizer, gradients)
    plain, _ = follow(optimizer, gradients.real / np.float32(0.6))
    np.testing.assert_allclose(updates, plain * (0.6 + 0.8j), rtol=1e-4, atol=1e-6)
