"""Clips of single entries."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import clipax


@pytest.mark.parametrize("nonfinite", ["zero", "propagate"])
def test_value_clips_are_entry_by_entry(nonfinite):
    clip = clipax.clip_by_value(1.0, nonfinite=nonfinite)
    grads = jnp.array([0.5, -3.0, jnp.inf, -jnp.inf, jnp.nan])
    update, _ = clip.update(grads, clip.init(grads))
    bad = [1, -1, 0] if nonfinite == "zero" else [np.nan] * 3
    np.testing.assert_array_equal(update, [0.5, -1, *bad])


def test_value_clips_of_complex_entries_keep_the_phase():
    clip = clipax.clip_by_value(1.0)
    grads = jnp.array([3 + 4j, 0.1j, complex(np.inf, 0)])
    update, _ = clip.update(grads, clip.init(grads))
    np.testing.assert_allclose(update, [0.6 + 0.8j, 0.1j, 0], rtol=1e-6)


def test_value_clips_of_float16_stay_finite_for_large_thresholds():
    clip = clipax.clip_by_value(1e6)
    grads = jnp.array([jnp.inf, 1.0], jnp.float16)
    np.testing.assert_array_equal(clip.update(grads, clip.init(grads))[0], [65504, 1])
    shrunk = clipax.clip_by_value(lambda count: -1.0)
    np.testing.assert_array_equal(shrunk.update(grads, shrunk.init(grads))[0], [0, 0])
