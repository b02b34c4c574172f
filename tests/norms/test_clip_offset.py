"""A clip that compares the norm plus an offset: where it begins, and what telemetry says of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax


def decide(threshold, offset, norms):
    clip = clipax.norms.clip(threshold, offset=offset)
    norms = jnp.asarray(norms, jnp.float32)
    context = clipax.thresholds.Context(count=jnp.array(0))
    return clip.update(norms, clip.init(norms.shape), context)[0]


def test_the_factor_is_that_of_the_shifted_norm():
    decision = decide(4.0, 1.0, [0.0, 2.0, 3.0, 7.0, 39.0])
    np.testing.assert_allclose(decision.factor, [1, 1, 1, 0.5, 0.1], rtol=1e-6)
    np.testing.assert_array_equal(decision.threshold, np.full(5, 3.0, np.float32))


def test_a_block_counts_as_clipped_where_its_factor_is_below_one():
    clip = clipax.clip_sgd(0.1, 4.0, offset=1.0)
    state = clip.init(jnp.zeros(1))
    fractions = []
    for size in (2.9, 3.1, 0.0, 50.0):
        _, state = clip.update(jnp.array([size]), state)
        fractions.append(float(clipax.metrics(state)["clip_fraction"]))
    np.testing.assert_allclose(fractions, [0, 1 / 2, 1 / 3, 1 / 2], rtol=1e-6)


def test_an_offset_above_the_threshold_clips_every_norm():
    decision = decide(1.0, 4.0, [0.0, 1e-3, 4.0])
    np.testing.assert_allclose(decision.factor, [0.25, 1 / 4.001, 0.125], rtol=1e-6)
    smallest = float(jnp.finfo(jnp.float32).smallest_normal)
    np.testing.assert_array_equal(decision.threshold, np.full(3, smallest, np.float32))


def test_no_offset_and_an_offset_of_zero_are_the_same():
    norms = np.geomspace(1e-30, 1e30, 61)
    for with_zero, without in zip(decide(0.7, 0.0, norms), decide(0.7, None, norms), strict=True):
        np.testing.assert_array_equal(with_zero, without)


def test_an_infinite_threshold_leaves_every_norm_alone():
    decision = decide(float("inf"), 5.0, [0.0, 1.0, 3e38])
    np.testing.assert_array_equal(decision.factor, np.ones(3, np.float32))
    assert np.isposinf(decision.threshold).all()


def test_norms_near_the_largest_float_are_clipped_and_stay_finite():
    decision = decide(1.0, 1e38, [3.3e38])
    assert np.isfinite(decision.factor).all()
    assert (np.asarray(decision.factor) < 1e-38).all()


def test_an_offset_may_be_traced():
    def factor(offset):
        return decide(4.0, offset, [7.0]).factor

    np.testing.assert_allclose(jax.jit(factor)(1.0), [0.5], rtol=1e-6)


@pytest.mark.parametrize("offset", [-1.0, float("inf"), float("nan")])
def test_a_bad_offset_is_refused(offset):
    message = rf"`offset` must be non-negative and finite, got {offset}\."
    with pytest.raises(ValueError, match=message):
        clipax.norms.clip(1.0, offset=offset)
    with pytest.raises(ValueError, match=message):
        clipax.clip_sgd(0.1, 1.0, offset=offset)
