"""Thresholds in units of the root mean square of a block's entries, and the clip at one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax.thresholds import Context


def test_a_threshold_per_entry_grows_with_the_root_of_the_size():
    sizes = jnp.array([1.0, 4.0, 0.0])
    context = Context(jnp.array(2), sizes=sizes)
    for given in (3.0, lambda count: 1.0 + count, clipax.thresholds.as_threshold(3.0)):
        threshold = clipax.thresholds.block_rms(given)
        now, _ = threshold.update(jnp.zeros(3), threshold.init((3,)), context)
        np.testing.assert_array_equal(now, [3, 6, 3])


def test_a_threshold_with_memory_is_handed_root_mean_squares():
    inner = clipax.thresholds.rms_of_norms(0.5)
    threshold = clipax.thresholds.block_rms(inner)
    context = Context(jnp.array(0), sizes=jnp.array([4.0, 16.0]))
    now, state = threshold.update(jnp.array([2.0, 12.0]), threshold.init((2,)), context)
    np.testing.assert_allclose(now, [1, 6], rtol=1e-6)
    np.testing.assert_allclose(state.root, 0.1 * np.array([1, 3]), rtol=1e-6)


def test_a_threshold_per_entry_needs_sizes():
    threshold = clipax.thresholds.block_rms(1.0)
    with pytest.raises(ValueError, match="`context` must know the sizes"):
        threshold.update(jnp.ones(()), (), Context(jnp.array(0)))


@pytest.mark.parametrize("threshold", [1.0, 0.3, 1e-3])
def test_block_rms_is_that_of_optax(threshold):
    ours, theirs = clipax.clip_by_block_rms(threshold), optax.clip_by_block_rms(threshold)
    ordinary = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    tree = {"w": jnp.asarray(ordinary), "b": jnp.array(0.2), "c": jnp.array([3 + 4j, 1j])}
    clipped, state = ours.update(tree, ours.init(tree))
    expected, _ = theirs.update(tree, theirs.init(tree))
    for one, other in zip(jax.tree.leaves(clipped), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    np.testing.assert_allclose(
        state.telemetry.threshold, threshold * np.sqrt([1, 2, 35]), rtol=1e-6
    )


def test_block_rms_counts_the_entries_of_each_block():
    tree = {"a": jnp.full((2, 3), 2.0), "b": jnp.full(3, 0.5)}
    for scope, expected in (("unit", 1.0), ("global", 2.0 * (9 / 24.75) ** 0.5)):
        clip = clipax.clip_by_block_rms(1.0, scope=scope)
        clipped, _ = clip.update(tree, clip.init(tree))
        np.testing.assert_allclose(clipped["a"], expected, rtol=1e-6)


def test_relative_thresholds_per_entry_compare_root_mean_squares():
    params, gradient = jnp.full(100, 1.0), jnp.full(100, 3.0)
    clip = clipax.clip_by_block_rms(clipax.thresholds.relative(0.1))
    update, _ = clip.update(gradient, clip.init(params), params)
    np.testing.assert_allclose(update, 0.1, rtol=1e-6)
